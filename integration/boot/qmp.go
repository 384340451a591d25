package boot

import (
	"encoding/json"
	"fmt"
	"net"
)

// monitor speaks QEMU's machine protocol (docs/interop/qmp-spec.rst).
type monitor struct {
	conn net.Conn
	in   *json.Decoder
}

// message is what QEMU sends.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Device string `json:"device"`
	} `json:"data"`
}

func newMonitor(conn net.Conn) (*monitor, error) {
	m := &monitor{conn, json.NewDecoder(conn)}
	_, err := m.next(func(m message) bool { return m.Greeting != nil })
	if err == nil {
		err = m.execute("qmp_capabilities", nil)
	}
	return m, err
}

// next returns the first message that fits.
func (m *monitor) next(fits func(message) bool) (message, error) {
	for {
		var got message
		if err := m.in.Decode(&got); err != nil {
			return got, fmt.Errorf("QEMU's monitor: %w", err)
		}
		if fits(got) {
			return got, nil
		}
	}
}

// execute runs a command.
func (m *monitor) execute(command string, arguments map[string]string) error {
	request, err := json.Marshal(struct {
		Execute   string            `json:"execute"`
		Arguments map[string]string `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return err
	}
	if _, err := m.conn.Write(append(request, '\n')); err != nil {
		return fmt.Errorf("QEMU's monitor: %w", err)
	}
	answer, err := m.next(func(m message) bool { return m.Return != nil || m.Error != nil })
	if err == nil && answer.Error != nil {
		err = fmt.Errorf("QEMU: %s: %s", command, answer.Error.Desc)
	}
	return err
}

// waitDeleted waits until the machine has let go of a device.
func (m *monitor) waitDeleted(id string) error {
	_, err := m.next(func(m message) bool { return m.Event == "DEVICE_DELETED" && m.Data.Device == id })
	return err
}
