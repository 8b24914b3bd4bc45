package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// clockTick is the unit of CPU times in /proc: USER_HZ, which is 100 on every Linux platform.
const clockTick = 100

// processUsage is what a process has used since it started.
type processUsage struct {
	CPUSeconds   float64 // user and system, all threads, children that were waited for not included
	RSSBytes     int64   // resident now, with the pages of mapped files
	AnonBytes    int64   // resident now, without the pages of mapped files
	WrittenBytes int64   // sent to the storage layer, written through mappings included
}

// minus returns what was used since an earlier reading; memory is that of u.
func (u processUsage) minus(earlier processUsage) processUsage {
	u.CPUSeconds -= earlier.CPUSeconds
	u.WrittenBytes -= earlier.WrittenBytes
	return u
}

// readUsage reads /proc/PID. It fails where there is no /proc, and for processes of other users.
func readUsage(pid int) (processUsage, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	var u processUsage
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	if u.CPUSeconds, err = parseStatCPU(stat); err != nil {
		return u, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	fields := parseColonFields(status)
	u.RSSBytes = fields["VmRSS"] * 1024
	u.AnonBytes = fields["RssAnon"] * 1024
	io, err := os.ReadFile(filepath.Join(dir, "io"))
	if err != nil {
		return u, err
	}
	u.WrittenBytes = parseColonFields(io)["write_bytes"]
	return u, nil
}

// parseStatCPU returns utime + stime of a /proc/PID/stat line. The second field is the program's name in parentheses
// and may hold anything, so counting starts after the last parenthesis.
func parseStatCPU(stat []byte) (float64, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	const utime, stime = 11, 12 // fields 14 and 15 of the whole line
	if end < 0 || len(fields) <= stime {
		return 0, fmt.Errorf("bench: process stat line with %d fields", len(fields))
	}
	var ticks uint64
	for _, field := range []string{fields[utime], fields[stime]} {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("bench: process stat line: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / clockTick, nil
}

// parseColonFields reads lines such as "VmRSS:  123 kB"; lines whose value is no number are left out.
func parseColonFields(text []byte) map[string]int64 {
	fields := map[string]int64{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		words := strings.Fields(rest)
		if !ok || len(words) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
			fields[name] = n
		}
	}
	return fields
}

// dirtyBytes is how much the kernel still has to write to disks, 0 where it cannot be told.
func dirtyBytes() int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	fields := parseColonFields(text)
	return (fields["Dirty"] + fields["Writeback"]) * 1024
}
