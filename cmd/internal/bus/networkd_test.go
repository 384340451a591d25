package bus

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/uplink-generator/uplink-generator/gen/rootfs"
)

// serve is a message bus for one connection. It answers only the login, and nothing at all unless
// it is to take part. It answers calls with errors of these names, or with success for "".
func serve(conn net.Conn, takesPart bool, answers ...string) {
	in := bufio.NewReader(conn)
	for takesPart {
		line, err := in.ReadString('\n')
		answer := map[string]string{"\x00AUTH": "REJECTED EXTERNAL", "AUTH": "OK 0", "NEGOTIATE_UNIX_FD": "ERROR"}
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if err != nil || word == "BEGIN" {
			break
		}
		if rest != "" {
			word = strings.TrimPrefix(word, "\x00")
		}
		_, _ = conn.Write([]byte(answer[word] + "\r\n"))
	}
	for takesPart {
		call, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		reply := dbus.Message{
			Type: dbus.TypeMethodReply, Body: []any{":1.1"},
			Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldReplySerial: dbus.MakeVariant(call.Serial()), dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf("")),
			},
		}
		if call.Headers[dbus.FieldMember].Value() != "Hello" {
			if len(answers) == 0 {
				continue
			}
			if name := answers[0]; name != "" {
				reply.Type, reply.Headers[dbus.FieldErrorName] = dbus.TypeError, dbus.MakeVariant(name)
			}
			answers = answers[1:]
		}
		var b bytes.Buffer
		_ = reply.EncodeTo(&b, binary.LittleEndian)
		binary.LittleEndian.PutUint32(b.Bytes()[8:], 1) // its own serial number
		_, _ = conn.Write(b.Bytes())
	}
}

// busBelow serves a message bus below a root.
func busBelow(t *testing.T, root string, takesPart bool, answers ...string) (stop func()) {
	t.Helper()
	socket := filepath.Join(root, "run/dbus/system_bus_socket")
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn, takesPart, answers...)
		}
	}()
	return func() { listener.Close() }
}

// TestNobodyIsWaitedForWithoutEnd has a networkd, and a bus, that hang.
func TestNobodyIsWaitedForWithoutEnd(t *testing.T) {
	callTime = 300 * time.Millisecond
	for _, c := range []struct {
		what, says string
		busAnswers bool
	}{
		{"networkd hangs", "systemd-networkd does not answer Reload within 300ms: context deadline exceeded: see `systemctl status systemd-networkd`", true},
		{"the bus hangs", "the message bus, which does not answer", false},
	} {
		root := t.TempDir()
		stop := busBelow(t, root, c.busAnswers)
		done := make(chan error, 1)
		go func() { done <- ReloadNetworkd(context.Background(), rootfs.At(root)) }()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", c.what, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: it waits", c.what)
		}
		stop()
	}
}

// TestNetworkdIsLookedFor has a networkd that comes to the bus later than it is asked for, or
// refuses.
func TestNetworkdIsLookedFor(t *testing.T) {
	callTime = CallTime
	for _, c := range []struct {
		what    string
		answers []string
		says    string
	}{
		{"it answers", []string{""}, ""},
		{"the bus does not know it yet", []string{busError + "ServiceUnknown", ""}, ""},
		{"it has no name yet", []string{busError + "NameHasNoOwner", busError + "NameHasNoOwner", ""}, ""},
		{"it refuses", []string{busError + "AccessDenied", ""}, "systemd-networkd refuses Reload: "},
		{"it never comes", slices.Repeat([]string{busError + "ServiceUnknown"}, attempts), "systemd-networkd refuses Reload: "},
	} {
		root := t.TempDir()
		stop := busBelow(t, root, true, c.answers...)
		if err := ReloadNetworkd(t.Context(), rootfs.At(root)); (err == nil) != (c.says == "") || err != nil && !strings.HasPrefix(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.what, err, c.says)
		}
		stop()
	}
	// Nor is a bus there yet, and a caller whose context ends does not wait for it.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ReloadNetworkd(ctx, rootfs.At(t.TempDir())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no bus: %v", err)
	}
}
