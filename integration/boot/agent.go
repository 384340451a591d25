package boot

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The agent runs commands inside a virtual machine, over a serial port: there is no
// other way in that does not go through the network under test. EchoPort is where the
// machine sends back what it is sent.
const (
	agentService = `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/usr/lib/lab-agent
Restart=always
`
	// A line is a number and a script. The answer is that number, the exit status, and
	// what was written, in lines that nothing else looks like.
	agentScript = `#!/bin/sh
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while read -r number script <&3; do
	printf %s "$script" | base64 -d > /run/lab-agent.script
	sh /run/lab-agent.script >/run/lab-agent.out 2>/run/lab-agent.err </dev/null 3>&-
	status=$?
	echo "answer $number $status out:$(base64 -w0 /run/lab-agent.out) err:$(base64 -w0 /run/lab-agent.err)" >&3
done
`
	// The last program that systemd runs.
	endScript  = "#!/bin/sh\necho \"ended $1\" > /dev/ttyS1\n"
	echoSocket = "[Socket]\nListenStream=7\nAccept=yes\n"
	echoServer = "[Service]\nExecStart=cat\nStandardInput=socket\nStandardError=journal\n"

	// EchoPort is the TCP port of a virtual machine that sends back what it is sent.
	EchoPort = 7
)

// installAgent puts the agent and the echo server into a root.
func installAgent(root *os.Root) error {
	const units = "/usr/lib/systemd/system/"
	for name, f := range map[string]File{
		"/usr/lib/lab-agent":                             Program(agentScript),
		"/usr/lib/systemd/system-shutdown/lab":           Program(endScript),
		units + "lab-agent.service":                      Text(agentService),
		units + "lab-echo.socket":                        Text(echoSocket),
		units + "lab-echo@.service":                      Text(echoServer),
		units + "sysinit.target.wants/lab-agent.service": Link("../lab-agent.service"),
		units + "sockets.target.wants/lab-echo.socket":   Link("../lab-echo.socket"),
	} {
		if err := f.write(root, name); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// agent is the outer end.
type agent struct {
	mu     sync.Mutex // one command at a time
	conn   net.Conn
	number int
	lines  chan string // closed with the connection
}

func newAgent(conn net.Conn) *agent {
	a := &agent{conn: conn, lines: make(chan string, 16)}
	go func() {
		defer close(a.lines)
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			a.lines <- strings.TrimSpace(line)
		}
	}()
	return a
}

var errEnded = errors.New("the machine ended")

// wait waits for a line that begins with a word.
func (a *agent) wait(ctx context.Context, prefix string) ([]string, error) {
	for {
		select {
		case line, ok := <-a.lines:
			if !ok {
				return nil, errEnded
			}
			if rest, ok := strings.CutPrefix(line, prefix+" "); ok || line == prefix {
				return strings.Split(rest, " "), nil
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %q: %w", prefix, ctx.Err())
		}
	}
}

// run runs a shell script.
func (a *agent) run(ctx context.Context, script string) (stdout string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	// The port has no flow control, and the machine may be slow to read: in pieces.
	request := []byte(fmt.Sprintf("%d %s\n", a.number, base64.StdEncoding.EncodeToString([]byte(script))))
	for len(request) > 0 {
		n, err := a.conn.Write(request[:min(len(request), 512)])
		if err != nil {
			return "", fmt.Errorf("%w: %w", errEnded, err)
		}
		if request = request[n:]; len(request) > 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	words, err := a.wait(ctx, "answer "+strconv.Itoa(a.number))
	if err != nil {
		return "", err
	}
	if len(words) != 3 {
		return "", fmt.Errorf("the machine answered %q", words)
	}
	var texts [2]string
	for i, prefix := range []string{"out:", "err:"} {
		text, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(words[i+1], prefix))
		if err != nil {
			return "", fmt.Errorf("the machine answered %q: %w", words[i+1], err)
		}
		texts[i] = string(text)
	}
	if words[0] != "0" {
		return texts[0], fmt.Errorf("exit status %s: %s", words[0], strings.TrimSpace(texts[1]))
	}
	return texts[0], nil
}
