package need

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMissing needs what no machine has.
func TestMissing(t *testing.T) {
	if os.Getenv("UPLINK_TEST_NEED") == "" {
		t.Skip("it is run by TestASkipIsLoudOrAFailure")
	}
	Nil(t, nil)
	Program(t, "sh")
	t.Run("program", func(t *testing.T) { Program(t, "no-such-program", "of no package") })
	t.Run("optional", func(t *testing.T) { Optional(t, errors.New("nowhere near")) })
	t.Run("error", func(t *testing.T) { Nil(t, errors.New("no such thing")) })
}

func TestASkipIsLoudOrAFailure(t *testing.T) {
	for _, c := range []struct {
		ci, emulated string
		want         string
	}{{"", "", "SKIP"}, {"true", "", "FAIL"}, {"true", "1", "SKIP"}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMissing$", "-test.v")
		cmd.Env = []string{"UPLINK_TEST_NEED=1", "PATH=" + os.Getenv("PATH"), "CI=" + c.ci, "EMULATED=" + c.emulated}
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (c.want == "FAIL") {
			t.Errorf("CI=%s EMULATED=%s: %v\n%s", c.ci, c.emulated, err, out)
		}
		for _, name := range []string{"program", "error"} {
			if !strings.Contains(string(out), "--- "+c.want+": TestMissing/"+name) {
				t.Errorf("CI=%s EMULATED=%s: %s is no %s:\n%s", c.ci, c.emulated, name, c.want, out)
			}
		}
		if !strings.Contains(string(out), "--- SKIP: TestMissing/optional") || !strings.Contains(string(out), "NOT TESTED: nowhere near") {
			t.Errorf("CI=%s EMULATED=%s: what is optional is not skipped:\n%s", c.ci, c.emulated, out)
		}
		says := []string{`"no-such-program": executable file not found in $PATH (of no package)`, "no such thing"}
		if c.want == "SKIP" {
			says = append(says, "NOT TESTED: no such thing")
		}
		for _, s := range says {
			if !strings.Contains(string(out), s) {
				t.Errorf("%q is not said:\n%s", s, out)
			}
		}
	}
}
