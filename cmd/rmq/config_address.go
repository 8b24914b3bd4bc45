package main

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
)

const namesrvListIllegal = `The Name Server Address[%s] illegal, please set it as follows, "127.0.0.1:9876;192.168.0.1:9876"`

// parseNamesrvList splits "host:port;host:port" and checks every entry; the error is the classic text, exit code 253.
// An empty list is nil.
func parseNamesrvList(list string) ([]string, error) {
	var addresses []string
	for entry := range strings.SplitSeq(list, ";") {
		if entry = strings.TrimSpace(entry); entry == "" {
			continue
		}
		if checkAddress(entry) != nil {
			return nil, exitErrorf(exitBadAddress, namesrvListIllegal, list)
		}
		addresses = append(addresses, entry)
	}
	return addresses, nil
}

// checkAddress reports whether address is host:port with a port that can be dialled.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if host == "" || strings.ContainsAny(host, " \t/,;") {
		return fmt.Errorf("%q is not a host", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

// detectAddress returns the address to advertise when none is configured: the first IPv4 address of an interface that is
// up and is neither a loopback nor a container bridge. Failing that, what there is, with a warning.
func detectAddress(log *slog.Logger) string {
	interfaces, err := net.Interfaces()
	if err != nil {
		log.Warn("network interfaces cannot be listed", "error", err)
	}
	var bridge string
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		address := firstIPv4(i)
		switch {
		case address == "":
		case bridgeName(i.Name):
			bridge = address
		default:
			return address
		}
	}
	address := "127.0.0.1"
	if bridge != "" {
		address = bridge
	}
	log.Warn("clients on other machines may not reach the advertised address; set brokerIP1", "brokerIP1", address)
	return address
}

func firstIPv4(i net.Interface) string {
	addresses, err := i.Addrs()
	if err != nil {
		return ""
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

// bridgeName reports whether an interface of this name joins containers of this machine.
func bridgeName(name string) bool {
	for _, prefix := range []string{"docker", "br-", "veth", "virbr", "cni", "flannel"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// withJavaOptions lets the system properties that classic start scripts pass in JAVA_OPT and JAVA_OPT_EXT stand in for
// the environment variables of the same meaning; as in RocketMQ the property wins.
func withJavaOptions(env func(string) string) func(string) string {
	names := map[string]string{
		"-Drocketmq.namesrv.addr":   "NAMESRV_ADDR",
		"-Drocketmq.home.dir":       "ROCKETMQ_HOME",
		"-Drocketmq.serialize.type": "ROCKETMQ_SERIALIZE_TYPE",
		"-Duser.home":               "HOME",
	}
	given := map[string]string{}
	for _, word := range strings.Fields(env("JAVA_OPT") + " " + env("JAVA_OPT_EXT")) {
		property, value, _ := strings.Cut(word, "=")
		if name, ok := names[property]; ok {
			given[name] = strings.Trim(value, `"'`)
		}
	}
	return func(name string) string {
		if value, ok := given[name]; ok {
			return value
		}
		return env(name)
	}
}
