package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/uplink-generator/uplink-generator/apply"
	"github.com/uplink-generator/uplink-generator/cmd/internal/host"
)

const tryUsage = `Usage: uplinkctl try [--root DIR] [--timeout SECONDS] [--wait SECONDS]
       uplinkctl try [--root DIR] --confirm | --cancel

Bring a changed spec into effect as reload does, but for a time: unless you keep
it, everything goes back to how it was. That does not depend on this process or
its session, so a change that cuts off your own ssh connection undoes itself. On
a terminal ENTER keeps it, and q or Ctrl-C goes back at once; from anywhere else
use --confirm or --cancel. A reboot ends a try too: it boots with the spec that
is in the files.

Options:
  --root DIR         the host's root directory: where the spec and /run are
                     (default /)
  --timeout SECONDS  how long you have to keep it once it is in effect
                     (default 120)
  --wait SECONDS     how long it may take until all is in effect (default 15)
  --confirm          keep what is tried
  --cancel           go back now, or once more if going back has failed
  --go-back          wait until the time is over and go back; for the timer

Exit status: 0 kept, or gone back with --cancel; 1 gone back, or an error; 2
wrong usage.

Examples:
  uplinkctl try
  uplinkctl try --timeout 300
  uplinkctl try --confirm
`

func tryCommand() *command {
	var root string
	o := host.TryOptions{Timeout: 120 * time.Second, Wait: 15 * time.Second}
	var confirm, cancel, goBack bool
	return &command{
		name: "try", usage: tryUsage,
		flags: func(f *flag.FlagSet) {
			rootOption(f, &root)
			seconds(f, &o.Timeout, "timeout")
			seconds(f, &o.Wait, "wait")
			f.BoolVar(&confirm, "confirm", false, "")
			f.BoolVar(&cancel, "cancel", false, "")
			f.BoolVar(&goBack, "go-back", false, "")
		},
		run: func(args []string, stdout, stderr io.Writer) int {
			chosen := 0
			for _, flag := range []bool{confirm, cancel, goBack} {
				if flag {
					chosen++
				}
			}
			switch {
			case chosen > 1:
				return wrongUsage(stderr, tryUsage, "--confirm, --cancel and --go-back exclude each other")
			case o.Timeout == 0:
				return wrongUsage(stderr, tryUsage, "--timeout 0 leaves no time to keep it")
			}
			return noArguments(tryUsage, func(stdout, stderr io.Writer) error {
				switch {
				case confirm:
					return say(stdout, host.Kept, host.ConfirmTry(context.Background(), root, stderr))
				case cancel:
					text, err := host.CancelTry(root, stderr)
					return say(stdout, text, err)
				case goBack:
					return deadMan(root, stderr)
				}
				o.Stderr = stderr
				return try(root, o, stdout)
			})(args, stdout, stderr)
		},
	}
}

// say prints what was done, unless there is an error.
func say(w io.Writer, text string, err error) error {
	if err == nil {
		fmt.Fprintln(w, text)
	}
	return err
}

// errLogged makes the exit status 1 where the log has the error.
var errLogged = fmt.Errorf("not all is as it was before: %w", errDiffers)

// deadMan waits and goes back, and reports to a log. Lines begin with their priority, as the
// journal and the kernel log take it (sd-daemon(3)).
func deadMan(root string, log io.Writer) error {
	const failed, notice = "<3>", "<5>"
	text, err := host.GoBack(root, log)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(log, "%suplinkctl: %s\n", failed, strings.TrimSuffix(line, "\n"))
		}
		return errLogged
	}
	if text != "" {
		text = "nobody has kept what was tried: " + text
	}
	for line := range strings.Lines(text) {
		fmt.Fprintf(log, "%suplinkctl: %s\n", notice, strings.TrimSuffix(line, "\n"))
	}
	return nil
}

// try brings a spec into effect and waits until somebody has decided what becomes of it.
func try(root string, o host.TryOptions, stdout io.Writer) error {
	ctx, stop := interruptible()
	defer stop()
	// Ignored until it is in effect: a lost session must not leave half of it.
	interrupt, ends := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)
	signal.Notify(ends, syscall.SIGHUP, syscall.SIGTERM)
	t, err := host.Try(ctx, root, o)
	printWrongWays(o.Stderr, err)
	if t == nil {
		return err
	}
	defer t.Close()
	return decide(t, interrupt, ends, stdout)
}

// Errors that end the waiting process: the dead-man does the rest, or a reboot. Going back takes
// time, for which a shutdown (SIGTERM) would have to wait.
var (
	errHungUp    = errors.New("the session has ended: it goes back by itself, unless it is kept with `uplinkctl try --confirm`")
	errToldToEnd = errors.New("told to end: it goes back by itself, unless it is kept with `uplinkctl try --confirm`, or the host reboots")
)

// verified sums up a verification without wrong ways.
func verified(v apply.Verification) string {
	text := "in effect for now"
	if n := len(v.Checks); n > 0 {
		text += fmt.Sprintf("; verified: %d of %d ways are right", n, n)
	}
	if len(v.Hazards) > 0 {
		text += "; what may defeat it: see `uplinkctl verify`"
	}
	return text
}

// decide waits until a try is kept or has gone back, and asks if there is a terminal.
func decide(t *host.Trial, interrupt, ends <-chan os.Signal, stdout io.Writer) error {
	for _, f := range t.Changes.Written {
		fmt.Fprintf(stdout, "written %s\n", f)
	}
	for _, f := range t.Changes.Removed {
		fmt.Fprintf(stdout, "removed %s\n", f)
	}
	fmt.Fprintln(stdout, verified(t.Verification))
	var answers <-chan answer
	if isTerminal(os.Stdin) {
		answers = ask(os.Stdin)
	} else {
		fmt.Fprintf(stdout, "keep it with `uplinkctl try --confirm` within %d seconds, or it goes back\n", host.Seconds(t.Left()))
	}
	f, ok := stdout.(descriptor)
	counts := answers != nil && ok && isTerminal(f)
	if answers != nil && !counts {
		fmt.Fprint(stdout, keepThis(t), "\n")
	}
	// What the dead-man has not done by then it is not able to do.
	const grace = 10 * time.Second
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	shown := ""
	for {
		if now := keepThis(t); counts && now != shown && t.Left() > 0 {
			fmt.Fprint(stdout, "\r", now)
			shown = now
		}
		decided, err := t.Decided()
		var said answer
		select {
		case s := <-ends:
			if s == syscall.SIGTERM {
				return errToldToEnd
			}
			return errHungUp
		case <-interrupt:
			decided, err = true, t.Back()
		case said = <-answers:
			decided = true
			switch said {
			case keepIt:
				err = t.Keep(context.Background())
			case hungUp:
				return errHungUp
			default:
				err = t.Back()
			}
		case <-tick.C:
			if !decided && t.Left() < -grace {
				decided, err = true, t.Back()
			}
		}
		if !decided {
			continue
		}
		if counts && said != keepIt {
			fmt.Fprintln(stdout)
		}
		return say(stdout, host.Kept, err)
	}
}

func keepThis(t *host.Trial) string {
	return fmt.Sprintf("Keep this? Press ENTER within %d seconds, or it goes back (q: now) ", max(0, host.Seconds(t.Left())))
}

func isTerminal(f descriptor) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// answer is the outcome of the question.
type answer int

const (
	goBack answer = iota
	keepIt
	hungUp // nobody can answer any more
)

// ask returns a channel that gets one answer. Anything typed before the question does not count.
func ask(terminal *os.File) <-chan answer {
	_ = unix.IoctlSetInt(int(terminal.Fd()), unix.TCFLSH, unix.TCIFLUSH)
	answers := make(chan answer, 1)
	go func() {
		for lines := bufio.NewReader(terminal); ; {
			text, err := lines.ReadString('\n')
			if err != nil {
				// An end of input that somebody typed is an answer.
				if isHungUp(terminal) {
					answers <- hungUp
				} else {
					answers <- goBack
				}
				return
			}
			switch strings.ToLower(strings.TrimSpace(text)) {
			case "", "y", "yes":
				answers <- keepIt
				return
			case "q", "quit", "n", "no":
				answers <- goBack
				return
			}
		}
	}()
	return answers
}

// isHungUp says whether the other end of a terminal is gone, as after a lost ssh session.
func isHungUp(terminal *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(terminal.Fd())}}
	_, err := unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
