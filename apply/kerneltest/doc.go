// Package kerneltest has what tests of an apply.Kernel need: the contract that every one must
// keep (Run), one that is only memory (Fake), one that breaks another on request (Faulty),
// network namespaces to try the real one in, and random routes and rules.
package kerneltest
