package host

import (
	"bufio"
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// quietTime is how long nothing must happen before the memory that the last looks took is given
// back: the program sleeps for hours after a burst.
const quietTime = 3 * time.Second

// giveBack gives back the memory that nothing needs while the program sleeps: the free part of
// the heap, and the pages of the program's own code. Starting and working have mapped most of
// those, because the kernel maps the fifteen pages around each requested one. They stay in the
// page cache, and come from there when something happens again.
func giveBack() {
	debug.FreeOSMemory()
	maps, err1 := os.ReadFile("/proc/self/maps")
	exe, err2 := os.Readlink("/proc/self/exe")
	if err1 != nil || err2 != nil {
		return
	}
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		start, end, ok := codeMapping(lines.Text(), exe)
		if ok {
			// Where the kernel refuses, the pages stay.
			_, _, _ = unix.RawSyscall(unix.SYS_MADVISE, start, end-start, unix.MADV_DONTNEED)
		}
	}
}

// codeMapping reads a line of /proc/self/maps that maps code of a file. Read-only data does not
// count: in a position-independent program addresses have been written into it.
func codeMapping(line, file string) (start, end uintptr, ok bool) {
	mapping, rest, _ := strings.Cut(line, " ")
	if !strings.HasPrefix(rest, "r-xp ") || !strings.HasSuffix(rest, " "+file) {
		return 0, 0, false
	}
	from, to, _ := strings.Cut(mapping, "-")
	first, err1 := strconv.ParseUint(from, 16, 64)
	last, err2 := strconv.ParseUint(to, 16, 64)
	return uintptr(first), uintptr(last), err1 == nil && err2 == nil && first < last
}
