// Command peak runs a program and prints its peak memory, in KiB.
//
// It exists because until exec the kernel counts the memory of the starting process as the new
// one's (setmax_mm_hiwater_rss in fs/exec.c), so that a large benchmark would measure itself.
// This program is small, and starts nothing of Go's runtime that it can do without.
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
