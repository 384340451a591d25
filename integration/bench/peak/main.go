// Command peak runs a program and prints the most memory that it has had, in KiB.
//
// It exists because the kernel counts the memory of who starts a process to the new
// one, up to its exec (setmax_mm_hiwater_rss in fs/exec.c): a large benchmark would
// measure itself. This one is small, and starts nothing of Go's runtime that it can
// do without.
package main

import (
	"os"
	"strconv"
	"syscall"
)

func main() {
	pid, err := syscall.ForkExec(os.Args[1], os.Args[1:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 2, 2}})
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(127)
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	for {
		if _, err = syscall.Wait4(pid, &status, 0, &usage); err != syscall.EINTR {
			break
		}
	}
	os.Stdout.WriteString(strconv.FormatInt(usage.Maxrss, 10) + "\n")
	if err != nil || status != 0 {
		os.Exit(1)
	}
}
