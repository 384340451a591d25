package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// echoServer answers TCP and UDP on one wildcard port each, as a server does
// that was not told about the host's several addresses.
type echoServer struct {
	tcp net.Listener
	udp *net.UDPConn
	wg  sync.WaitGroup
}

// startEcho starts a server in the namespace.
func (n *Namespace) startEcho() (*echoServer, error) {
	s := &echoServer{}
	err := n.Do(func() error {
		tcp, err := net.ListenTCP("tcp", nil)
		if err != nil {
			return err
		}
		s.tcp = tcp
		udp, err := net.ListenUDP("udp", nil)
		if err != nil {
			return err
		}
		s.udp = udp
		return askDestination(udp)
	})
	if err != nil {
		s.close()
		return nil, fmt.Errorf("echo server in %s: %w", n.name, err)
	}
	s.wg.Go(s.serveTCP)
	s.wg.Go(s.serveUDP)
	return s, nil
}

func (s *echoServer) close() {
	if s.tcp != nil {
		s.tcp.Close()
	}
	if s.udp != nil {
		s.udp.Close()
	}
	s.wg.Wait()
}

func (s *echoServer) tcpPort() uint16 { return uint16(s.tcp.Addr().(*net.TCPAddr).Port) }
func (s *echoServer) udpPort() uint16 { return uint16(s.udp.LocalAddr().(*net.UDPAddr).Port) }

func (s *echoServer) serveTCP() {
	for {
		conn, err := s.tcp.Accept()
		if err != nil {
			return
		}
		// close does not wait for it: it ends with the client's connection, which the client
		// closes before the server is closed.
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func (s *echoServer) serveUDP() {
	data, control := make([]byte, 2048), make([]byte, 256)
	for {
		n, nc, _, from, err := s.udp.ReadMsgUDPAddrPort(data, control)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error about an earlier answer
		}
		// If an answer cannot be sent, the client misses it.
		_, _, _ = s.udp.WriteMsgUDPAddrPort(data[:n], answerFrom(control[:nc]), from)
	}
}

// askDestination makes the kernel report the address that a packet came to. Without it a UDP
// server on a wildcard address answers from whichever address the route back prefers.
func askDestination(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		sockErr = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
	})
	return errors.Join(err, sockErr)
}

// answerFrom turns the control message with a packet's destination into the one that makes an
// answer leave from there. It omits the link, which the routes must choose.
func answerFrom(control []byte) []byte {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	var out []byte
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			info := &unix.Inet4Pktinfo{Spec_dst: [4]byte(m.Data[8:12])}
			out = append(out, unix.PktInfo4(info)...)
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			// For IPv4, a socket for both families receives the other message too.
			if to := netip.AddrFrom16([16]byte(m.Data[:16])); !to.Is4In6() {
				out = append(out, unix.PktInfo6(&unix.Inet6Pktinfo{Addr: to.As16()})...)
			}
		}
	}
	return out
}
