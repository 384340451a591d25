package main

import (
	"fmt"
	"io"
	"net/netip"

	"github.com/uplink-generator/uplink-generator/gen/fib"
	"github.com/uplink-generator/uplink-generator/gen/spec"
)

// exportedState and the types in it are the stable form of export --format json. The names are
// those of ip -json where it has one. Absent values are left out.
type exportedState struct {
	Version   int               `json:"version"`
	Files     []string          `json:"files"`
	Backend   string            `json:"backend"`
	Tables    []exportedTable   `json:"tables"`
	Links     []exportedLink    `json:"links"`
	Addresses []exportedAddress `json:"addresses"`
	Routes    []exportedRoute   `json:"routes"`
	Rules     []exportedRule    `json:"rules"`
}

type exportedTable struct {
	Table uint32 `json:"table"`
	Name  string `json:"name"`
}

type exportedMatch struct {
	Interface string `json:"interface,omitempty"`
	MAC       string `json:"mac,omitempty"`
	Driver    string `json:"driver,omitempty"`
	Path      string `json:"path,omitempty"`
}

type exportedUplink struct {
	Name   string `json:"name"`
	Origin string `json:"origin"`
}

type exportedLearn struct {
	DHCP4        bool   `json:"dhcp4"`
	DHCP6        bool   `json:"dhcp6"`
	RA           bool   `json:"ra"`
	Table        uint32 `json:"table"`
	DefaultRoute bool   `json:"default-route"`
	Metric       uint32 `json:"metric,omitempty"`
}

type exportedLink struct {
	Link              string           `json:"link"`
	Device            string           `json:"ifname,omitempty"`
	Match             exportedMatch    `json:"match"`
	Uplinks           []exportedUplink `json:"uplinks"`
	Manage            string           `json:"manage"`
	MTU               uint32           `json:"mtu,omitempty"`
	DNS               []netip.Addr     `json:"dns,omitempty"`
	Domains           []string         `json:"domains,omitempty"`
	RequiredForOnline string           `json:"required-for-online,omitempty"`
	Learn             *exportedLearn   `json:"learn,omitempty"`
}

type exportedAddress struct {
	Family    string `json:"family"`
	Local     string `json:"local"`
	PrefixLen int    `json:"prefixlen"`
	Broadcast string `json:"broadcast,omitempty"`
	Link      string `json:"link"`
	Device    string `json:"dev,omitempty"`
	Origin    string `json:"origin,omitempty"`
}

type exportedNexthop struct {
	Gateway string   `json:"gateway,omitempty"`
	Link    string   `json:"link"`
	Device  string   `json:"dev,omitempty"`
	Weight  uint16   `json:"weight,omitempty"`
	Flags   []string `json:"flags"`
}

type exportedMetrics struct {
	MTU      uint32 `json:"mtu,omitempty"`
	AdvMSS   uint32 `json:"advmss,omitempty"`
	InitCwnd uint32 `json:"initcwnd,omitempty"`
	InitRwnd uint32 `json:"initrwnd,omitempty"`
}

type exportedRoute struct {
	Family   string            `json:"family"`
	Type     string            `json:"type"`
	Dst      string            `json:"dst"`
	Gateway  string            `json:"gateway,omitempty"`
	Link     string            `json:"link,omitempty"`
	Device   string            `json:"dev,omitempty"`
	Table    uint32            `json:"table"`
	Protocol int               `json:"protocol"`
	Scope    string            `json:"scope,omitempty"`
	PrefSrc  string            `json:"prefsrc,omitempty"`
	Metric   uint32            `json:"metric,omitempty"`
	Flags    []string          `json:"flags"`
	Metrics  []exportedMetrics `json:"metrics,omitempty"`
	Nexthops []exportedNexthop `json:"nexthops,omitempty"`
	Origin   string            `json:"origin,omitempty"`
}

type exportedRule struct {
	Family            string  `json:"family"`
	Priority          uint32  `json:"priority"`
	Not               bool    `json:"not,omitempty"`
	Src               string  `json:"src"`
	SrcLen            int     `json:"srclen,omitempty"`
	Dst               string  `json:"dst,omitempty"`
	DstLen            int     `json:"dstlen,omitempty"`
	TOS               string  `json:"tos,omitempty"`
	FwMark            string  `json:"fwmark,omitempty"`
	FwMask            string  `json:"fwmask,omitempty"`
	IIF               string  `json:"iif,omitempty"`
	OIF               string  `json:"oif,omitempty"`
	IPProto           uint8   `json:"ipproto,omitempty"`
	SPort             uint16  `json:"sport,omitempty"`
	SPortStart        uint16  `json:"sport_start,omitempty"`
	SPortEnd          uint16  `json:"sport_end,omitempty"`
	DPort             uint16  `json:"dport,omitempty"`
	DPortStart        uint16  `json:"dport_start,omitempty"`
	DPortEnd          uint16  `json:"dport_end,omitempty"`
	UIDStart          *uint32 `json:"uid_start,omitempty"`
	UIDEnd            *uint32 `json:"uid_end,omitempty"`
	L3MDev            bool    `json:"l3mdev,omitempty"`
	Action            string  `json:"action"`
	Table             uint32  `json:"table,omitempty"`
	Goto              uint32  `json:"goto,omitempty"`
	SuppressPrefixLen *uint32 `json:"suppress_prefixlen,omitempty"`
	SuppressIfGroup   *uint32 `json:"suppress_ifgroup,omitempty"`
	Protocol          int     `json:"protocol"`
	Link              string  `json:"link,omitempty"`
	Origin            string  `json:"origin,omitempty"`
}

func exportJSON(w io.Writer, s *spec.Spec, state *fib.State) error {
	devices := map[string]string{}
	out := exportedState{
		Version: 1, Files: append([]string{}, s.Files...), Backend: string(s.Backend),
		Tables: []exportedTable{}, Links: []exportedLink{}, Addresses: []exportedAddress{}, Routes: []exportedRoute{}, Rules: []exportedRule{},
	}
	for _, t := range state.Tables {
		out.Tables = append(out.Tables, exportedTable{t.ID, t.Name})
	}
	for _, l := range state.Links {
		j := exportedLink{
			Link: l.Name, Match: exportedMatch{l.Match.Name, l.Match.MAC, l.Match.Driver, l.Match.Path}, Manage: "link",
			MTU: l.MTU, DNS: l.DNS, Domains: l.Domains, RequiredForOnline: l.RequiredForOnline,
		}
		if dev, ok := l.Match.Device(); ok {
			devices[l.Name], j.Device = dev, dev
		}
		if l.PolicyOnly {
			j.Manage = "policy"
		}
		for _, u := range l.Uplinks {
			j.Uplinks = append(j.Uplinks, exportedUplink{u.Name, u.Origin.String()})
		}
		if l.Learn.Any() {
			j.Learn = &exportedLearn{l.Learn.DHCP4, l.Learn.DHCP6, l.Learn.RA, l.Learn.Table, l.Learn.DefaultRoute, l.Learn.Metric}
		}
		out.Links = append(out.Links, j)
	}
	for _, a := range state.Addresses {
		j := exportedAddress{
			Family: exportedFamily(a.Family()), Local: a.Prefix.Addr().String(), PrefixLen: a.Prefix.Bits(),
			Link: a.Link, Device: devices[a.Link], Origin: a.Origin.String(),
		}
		if a.Family() == fib.Inet && a.Prefix.Bits() < 31 {
			j.Broadcast = fib.BroadcastOf(a.Prefix).String()
		}
		out.Addresses = append(out.Addresses, j)
	}
	for _, r := range state.Routes {
		out.Routes = append(out.Routes, newExportedRoute(r, devices))
	}
	for _, r := range state.Rules {
		out.Rules = append(out.Rules, newExportedRule(r))
	}
	return writeJSON(w, out)
}

func newExportedRoute(r fib.Route, devices map[string]string) exportedRoute {
	j := exportedRoute{
		Family: exportedFamily(r.Family), Type: r.Type.String(), Dst: "default", Link: r.Link, Table: r.Table, Protocol: fib.Protocol,
		PrefSrc: exportedAddr(r.Src), Metric: r.Metric, Flags: []string{}, Origin: r.Origin.String(),
	}
	if host := r.Dst.IsSingleIP(); host {
		j.Dst = r.Dst.Addr().String()
	} else if !r.IsDefault() {
		j.Dst = r.Dst.String()
	}
	if r.Family == fib.Inet {
		j.Scope = r.Scope.String()
	}
	if m := (exportedMetrics{r.MTU, r.AdvMSS, r.InitCwnd, r.InitRwnd}); m != (exportedMetrics{}) {
		j.Metrics = []exportedMetrics{m}
	}
	if len(r.Nexthops) == 1 {
		n := r.Nexthops[0]
		j.Gateway, j.Device, j.Flags = exportedAddr(n.Via), devices[n.Link], exportedFlags(n)
		return j
	}
	for _, n := range r.Nexthops {
		j.Nexthops = append(j.Nexthops, exportedNexthop{exportedAddr(n.Via), n.Link, devices[n.Link], n.Weight, exportedFlags(n)})
	}
	return j
}

func newExportedRule(r fib.Rule) exportedRule {
	j := exportedRule{
		Family: exportedFamily(r.Family), Priority: r.Priority, Not: r.Not, IIF: r.IIF, OIF: r.OIF, IPProto: r.IPProto,
		L3MDev: r.L3MDev, Action: r.Action.String(), Table: r.Table, Goto: r.Goto, Protocol: fib.Protocol,
		Link: r.Link, Origin: r.Origin.String(),
	}
	if j.Src, j.SrcLen = exportedSelector(r.From); j.Src == "" {
		j.Src = "all"
	}
	j.Dst, j.DstLen = exportedSelector(r.To)
	if r.TOS != 0 {
		j.TOS = fmt.Sprintf("%#x", r.TOS)
	}
	if r.Mask != 0 {
		j.FwMark, j.FwMask = fmt.Sprintf("%#x", r.Mark), fmt.Sprintf("%#x", r.Mask)
	}
	if j.SPort = r.SPort.Lo; r.SPort.Lo != r.SPort.Hi {
		j.SPort, j.SPortStart, j.SPortEnd = 0, r.SPort.Lo, r.SPort.Hi
	}
	if j.DPort = r.DPort.Lo; r.DPort.Lo != r.DPort.Hi {
		j.DPort, j.DPortStart, j.DPortEnd = 0, r.DPort.Lo, r.DPort.Hi
	}
	if r.UIDRange.Set {
		j.UIDStart, j.UIDEnd = &r.UIDRange.Value.Lo, &r.UIDRange.Value.Hi
	}
	if r.SuppressPrefixLength.Set {
		j.SuppressPrefixLen = &r.SuppressPrefixLength.Value
	}
	if r.SuppressIfGroup.Set {
		j.SuppressIfGroup = &r.SuppressIfGroup.Value
	}
	return j
}

func exportedFamily(f fib.Family) string {
	if f == fib.Inet {
		return "inet"
	}
	return "inet6"
}

func exportedAddr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func exportedFlags(n fib.Nexthop) []string {
	if n.OnLink {
		return []string{"onlink"}
	}
	return []string{}
}

// exportedSelector returns a rule's prefix as ip does: without the length for a host.
func exportedSelector(p netip.Prefix) (addr string, length int) {
	switch {
	case p.Bits() <= 0:
		return "", 0
	case p.IsSingleIP():
		return p.Addr().String(), 0
	}
	return p.Addr().String(), p.Bits()
}
