package run

import (
	"fmt"
	"syscall"
	"time"
)

// CheckDescriptors checks that some file descriptors are free, and makes the runtime take those
// that it needs. Without any the runtime ends the process when it first waits for something
// (netpollinit, runtime/netpoll_epoll.go), and that must not happen during a change.
func CheckDescriptors() error {
	const enough = 8
	var taken []int
	defer func() {
		for _, fd := range taken {
			syscall.Close(fd)
		}
		if len(taken) == enough {
			time.AfterFunc(time.Hour, func() {}).Stop()
		}
	}()
	for len(taken) < enough {
		fd, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%d file descriptors are free, and %d are needed: %w", len(taken), enough, err)
		}
		taken = append(taken, fd)
	}
	return nil
}
