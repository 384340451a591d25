package importer

import (
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

func (w *walker) forget(a *syntax.Assign) {
	if a.Name != nil {
		delete(w.vars, a.Name.Value)
		w.unset[a.Name.Value] = true
	}
}

// maxValue bounds a variable's length: each `A=$A$A` doubles it.
const maxValue = 64 << 10

// assign sets a variable to plain text.
func (w *walker) assign(a *syntax.Assign) {
	if a.Name == nil || a.Naked {
		return
	}
	value := ""
	ok := a.Array == nil && a.Index == nil && !a.Append
	if ok && a.Value != nil {
		var words []string
		words, ok = w.word(a.Value, false)
		value = strings.Join(words, " ")
	}
	if !ok || len(value) > maxValue {
		w.forget(a)
		return
	}
	w.vars[a.Name.Value] = value
	delete(w.unset, a.Name.Value)
}

// word returns the fields of a word; ok is false if they are not known.
func (w *walker) word(word *syntax.Word, split bool) (fields []string, ok bool) {
	var b strings.Builder
	has := false
	var put func(parts []syntax.WordPart, quoted bool) bool
	put = func(parts []syntax.WordPart, quoted bool) bool {
		for _, p := range parts {
			switch p := p.(type) {
			case *syntax.Lit:
				b.WriteString(unescape(p.Value, quoted))
				has = true
			case *syntax.SglQuoted:
				if p.Dollar {
					return false
				}
				b.WriteString(p.Value)
				has = true
			case *syntax.DblQuoted:
				has = true
				if !put(p.Parts, true) {
					return false
				}
			case *syntax.ParamExp:
				v, ok := w.parameter(p)
				if !ok {
					return false
				}
				if quoted || !split {
					b.WriteString(v)
					continue
				}
				for i, x := range strings.Fields(v) {
					if i > 0 || strings.HasPrefix(v, " ") && b.Len() > 0 {
						fields = append(fields, b.String())
						b.Reset()
					}
					b.WriteString(x)
					has = true
				}
			default:
				return false
			}
		}
		return true
	}
	if !put(word.Parts, false) {
		return nil, false
	}
	if has || !split {
		fields = append(fields, b.String())
	}
	return fields, true
}

// document returns the text of a here-document. A delimiter in quotes keeps
// everything in it as it is.
func (w *walker) document(r *syntax.Redirect) (string, bool) {
	if lit := r.Word.Lit(); lit == "" || strings.Contains(lit, `\`) {
		return r.Hdoc.Lit(), true
	}
	text, ok := w.word(&syntax.Word{Parts: []syntax.WordPart{&syntax.DblQuoted{Parts: r.Hdoc.Parts}}}, false)
	return strings.Join(text, ""), ok
}

// parameter returns the value of ${NAME}, or of ${NAME:-text} where NAME is not set.
func (w *walker) parameter(p *syntax.ParamExp) (string, bool) {
	if p.Excl || p.Length || p.Width || p.Index != nil || p.Slice != nil || p.Repl != nil || p.Names != 0 || p.Param == nil {
		return "", false
	}
	name := p.Param.Value
	v, set := w.vars[name]
	if p.Exp == nil {
		return v, set
	}
	if w.unset[name] {
		return "", false
	}
	switch p.Exp.Op {
	case syntax.DefaultUnset, syntax.DefaultUnsetOrNull:
		if set && v != "" {
			return v, true
		}
		if w.sourced && !set {
			return "", false
		}
		if p.Exp.Word == nil {
			return "", true
		}
		words, ok := w.word(p.Exp.Word, false)
		return strings.Join(words, " "), ok
	case syntax.ErrorUnset, syntax.ErrorUnsetOrNull:
		return v, set
	}
	return "", false
}

// unescape removes the backslashes of a literal.
func unescape(s string, quoted bool) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && (!quoted || strings.IndexByte("$`\"\\\n", s[i+1]) >= 0) {
			if i++; s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
