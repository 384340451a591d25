package integration

import (
	"maps"
	"slices"
)

// shrink returns the smallest draft for which wrong still returns yes, as far as removing things
// one by one leads: whole tables and arrays first, then their elements. Each step calls wrong,
// which must say no to a spec that is not valid.
func (d draft) shrink(wrong func(draft) bool) draft {
	for again := true; again; {
		again = false
		for _, smaller := range removals(d.tree) {
			candidate := draft{smaller.(keys)}
			if wrong(candidate) {
				d, again = candidate, true
				break
			}
		}
	}
	return d
}

// removals returns all values that one removal makes of a value, the large ones first.
func removals(v any) (list []any) {
	switch v := v.(type) {
	case keys:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			without := maps.Clone(v)
			delete(without, key)
			list = append(list, without)
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			for _, smaller := range removals(v[key]) {
				with := maps.Clone(v)
				with[key] = smaller
				list = append(list, with)
			}
		}
	case []keys:
		for i := range v {
			list = append(list, slices.Delete(slices.Clone(v), i, i+1))
		}
		for i := range v {
			for _, smaller := range removals(v[i]) {
				with := slices.Clone(v)
				with[i] = smaller.(keys)
				list = append(list, with)
			}
		}
	case []string:
		for i := range v {
			list = append(list, slices.Delete(slices.Clone(v), i, i+1))
		}
	}
	return list
}
