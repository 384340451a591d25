package kerneltest

import (
	"errors"
	"syscall"

	"github.com/uplink-generator/uplink-generator/apply"
)

// Fault is what goes wrong with an operation.
type Fault uint8

// The faults.
const (
	None    Fault = iota
	Refuse        // the operation is not carried out, those beside it are
	Stop          // nor is any that comes after it in the same call
	Lose          // it and all after it are carried out, but the answers are lost
	LoseAll       // it and all after it are not carried out, and the answers are lost
)

// ErrRefused is the errno of an operation that a Faulty refuses.
const ErrRefused = syscall.ENOMEM

// Faulty is an apply.Kernel in which the At-th operation, counted from 1, goes wrong.
// It passes everything else on.
type Faulty struct {
	apply.Kernel
	At    int
	Fault Fault

	// Before is called before each operation that is counted, with its number. Where it
	// is set operations are passed on one by one.
	Before func(n int, o apply.Op)

	// Seen are all operations that were asked for.
	Seen []apply.Op
}

// Execute implements apply.Kernel.
func (f *Faulty) Execute(ops []apply.Op) []error {
	first := len(f.Seen) + 1
	f.Seen = append(f.Seen, ops...)
	if f.Before != nil {
		var answers []error
		for i, o := range ops {
			f.Before(first+i, o)
			answers = append(answers, f.Kernel.Execute([]apply.Op{o})...)
		}
		return answers
	}
	i := f.At - first
	if i < 0 || i >= len(ops) || f.Fault == None {
		return f.Kernel.Execute(ops)
	}
	answers := f.Kernel.Execute(ops[:i])
	fill := func(err error) {
		for len(answers) < len(ops) {
			answers = append(answers, err)
		}
	}
	switch f.Fault {
	case Refuse:
		answers = append(answers, &apply.OpError{Op: ops[i], Msg: "refused by the test", Err: ErrRefused})
		answers = append(answers, f.Kernel.Execute(ops[i+1:])...)
	case Stop:
		answers = append(answers, &apply.OpError{Op: ops[i], Msg: "refused by the test", Err: ErrRefused})
		fill(apply.ErrNotSent)
	case Lose:
		f.Kernel.Execute(ops[i:])
		fill(errors.Join(apply.ErrUnanswered, syscall.ENOBUFS))
	case LoseAll:
		fill(errors.Join(apply.ErrUnanswered, syscall.ENOBUFS))
	}
	return answers
}
