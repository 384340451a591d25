package lab

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKillEndsWhatIsStartedMeanwhile kills programs that start others all the time.
func TestKillEndsWhatIsStartedMeanwhile(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		// How long they sleep tells them from all others.
		seconds := strconv.Itoa(100000 + os.Getpid()%100000*20 + i)
		p, err := startProcess("/", nil, "/bin/sh", "-c", "n=0; while [ $n -lt 2000 ]; do sleep "+seconds+" & n=$((n+1)); done; wait")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(3+i) * time.Millisecond)
		p.kill()
		if left := sleeping(t, seconds); len(left) > 0 {
			t.Errorf("%d that it has started are still there", len(left))
			for _, pid := range left {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
}

// sleeping returns the processes that sleep for so long.
func sleeping(t *testing.T, seconds string) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		text, _ := os.ReadFile(line) // it may have ended
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		if string(text) == "sleep\x00"+seconds+"\x00" || strings.HasPrefix(string(text), "/bin/sh\x00-c\x00n=0; while") && strings.Contains(string(text), " "+seconds+" ") {
			pids = append(pids, pid)
		}
	}
	return pids
}
