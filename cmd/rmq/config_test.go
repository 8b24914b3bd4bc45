package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeFile writes a file of the test's own directory and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// propertyEnv is an env function; pairs are NAME=value, HOME defaults to /home/user.
func propertyEnv(pairs ...string) func(string) string {
	return func(name string) string {
		for _, pair := range pairs {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		if name == "HOME" {
			return "/home/user"
		}
		return ""
	}
}

// recordedLog keeps the records of a logger as lines "LEVEL message key=value".
type recordedLog struct{ lines []string }

func (r *recordedLog) Enabled(context.Context, slog.Level) bool { return true }
func (r *recordedLog) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recordedLog) WithGroup(string) slog.Handler            { return r }
func (r *recordedLog) Handle(_ context.Context, record slog.Record) error {
	line := record.Level.String() + " " + record.Message
	record.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	r.lines = append(r.lines, line)
	return nil
}

// having returns the lines that hold every part.
func (r *recordedLog) having(parts ...string) (found []string) {
	for _, line := range r.lines {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			found = append(found, line)
		}
	}
	return found
}

func loadBroker(t *testing.T, text string, pairs ...string) (*BrokerConfig, *recordedLog) {
	t.Helper()
	log := &recordedLog{}
	c, err := LoadBrokerConfig(writeFile(t, "broker.conf", text), propertyEnv(pairs...), slog.New(log), false)
	if err != nil {
		t.Fatal(err)
	}
	return c, log
}

func loadBrokerError(t *testing.T, text string, pairs ...string) error {
	t.Helper()
	_, err := LoadBrokerConfig(writeFile(t, "broker.conf", text), propertyEnv(pairs...), slog.New(slog.DiscardHandler), false)
	if err == nil {
		t.Fatalf("%q was accepted", text)
	}
	return err
}

func TestBrokerDefaults(t *testing.T) {
	c, err := LoadBrokerConfig("", propertyEnv(), slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	if c.BrokerName == "" || c.BrokerIP1 == "" {
		t.Errorf("name %q and address %q must be detected", c.BrokerName, c.BrokerIP1)
	}
	levels := []time.Duration{1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200}
	for i := range levels {
		levels[i] *= time.Second
	}
	checks := []struct {
		name      string
		got, want any
	}{
		{"cluster", c.BrokerClusterName, "DefaultCluster"}, {"id", c.BrokerID, int64(0)}, {"port", c.ListenPort, 10911},
		{"bind", c.BindAddress, "0.0.0.0"}, {"root", c.StorePathRootDir, "/home/user/store"}, {"segment", c.MappedFileSizeCommitLog, int64(1 << 30)},
		{"flush", c.FlushDiskType, AsyncFlush}, {"role", c.BrokerRole, AsyncMaster}, {"interval", c.FlushIntervalCommitLog, 500 * time.Millisecond},
		{"deleteWhen", fmt.Sprint(c.DeleteWhen), "[4]"}, {"age", c.FileReservedTime, 72 * time.Hour}, {"ratio", c.DiskMaxUsedSpaceRatio, 75},
		{"force", c.DiskSpaceCleanForciblyRatio, 85}, {"warning", c.DiskSpaceWarningLevelRatio, 90}, {"message", c.MaxMessageSize, 4 << 20},
		{"perm", c.BrokerPermission, int32(6)}, {"queues", c.DefaultTopicQueueNums, int32(8)}, {"auto topic", c.AutoCreateTopicEnable, true},
		{"auto group", c.AutoCreateSubscriptionGroup, true}, {"pull bytes", c.MaxTransferBytesOnMessageInMemory, 256 << 10},
		{"pull count", c.MaxTransferCountOnMessageInMemory, 32}, {"long polling", c.LongPollingEnable, true}, {"levels", fmt.Sprint(c.MessageDelayLevel), fmt.Sprint(levels)},
		{"register", c.RegisterNameServerPeriod, 30 * time.Second}, {"name servers", len(c.NamesrvAddr), 0}, {"accept sends", c.StartAcceptSendRequestTimeStamp.IsZero(), true},
	}
	for _, check := range checks {
		if check.got != check.want {
			t.Errorf("%s = %v, want %v", check.name, check.got, check.want)
		}
	}
}

// TestClassicSamplesLoad loads files with the keys of every sample file that RocketMQ ships, for the program they are for.
func TestClassicSamplesLoad(t *testing.T) {
	count := 0
	err := filepath.WalkDir("testdata/classic", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		count++
		t.Run(path, func(t *testing.T) {
			log := &recordedLog{}
			name := filepath.Base(path)
			switch {
			case strings.HasPrefix(name, "broker-container"):
				_, err := LoadBrokerConfig(path, propertyEnv(), slog.New(log), false)
				if err == nil || !strings.Contains(err.Error(), "Container files are not supported") {
					t.Errorf("got %v, want a refusal that says what to do", err)
				}
			case strings.HasPrefix(name, "broker"):
				c, err := LoadBrokerConfig(path, propertyEnv(), slog.New(log), true)
				if err != nil {
					t.Fatal(err)
				}
				if len(log.having("0 unknown")) != 1 {
					t.Errorf("no summary without unknown keys in %q", log.lines)
				}
				checkSample(t, path, c)
			default:
				if _, err := LoadNamesrvConfig(path, propertyEnv(), slog.New(log), true); err != nil {
					t.Fatal(err)
				}
				if len(log.having("0 unknown")) != 1 {
					t.Errorf("no summary without unknown keys in %q", log.lines)
				}
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count != 32 {
		t.Errorf("%d sample files, want 32", count)
	}
}

func checkSample(t *testing.T, path string, c *BrokerConfig) {
	t.Helper()
	switch {
	case strings.Contains(path, "dledger"):
		want := strings.TrimSuffix(path[len(path)-len("0.conf"):], ".conf")
		if !c.EnableDLegerCommitLog || len(c.DLegerPeers) != 3 || fmt.Sprint(c.BrokerID) != want || c.BrokerName != "RaftNode00" {
			t.Errorf("got %+v", c)
		}
	case strings.Contains(path, "quick-start"):
		if c.BrokerID != -1 {
			t.Errorf("brokerId %d, want -1", c.BrokerID)
		}
	default:
		if c.FileReservedTime != 48*time.Hour || c.FlushDiskType != AsyncFlush {
			t.Errorf("reserved %v, flush %s", c.FileReservedTime, c.FlushDiskType)
		}
		if slave := strings.Contains(path, "-s.") || strings.Contains(path, "-s-"); slave != (c.BrokerRole == Slave) || slave != (c.BrokerID == 1) {
			t.Errorf("role %s, id %d", c.BrokerRole, c.BrokerID)
		}
		if sync := strings.Contains(path, "2m-2s-sync") && c.BrokerRole != Slave; sync && c.BrokerRole != SyncMaster {
			t.Errorf("role %s, want SYNC_MASTER", c.BrokerRole)
		}
	}
}

func TestLoadSummarisesAndHints(t *testing.T) {
	c, log := loadBroker(t, strings.Join([]string{
		"brokerName=broker-a",          // applied
		"fileReservedTime = 48 ",       // applied, trailing blank
		"sendMessageThreadPoolNums=16", // no effect
		"transactionTimeOut=7000",      // not yet
		"useEpollNativeSelector=false", // no effect, only repeats the default
		"brokerRol=SLAVE",              // unknown
		"mapedFileSizeCommitLog=65536", // old spelling
		"brokerName=broker-b",          // again
	}, "\n"))
	if c.BrokerName != "broker-b" || c.FileReservedTime != 48*time.Hour || c.MappedFileSizeCommitLog != 65536 {
		t.Errorf("got %+v", c)
	}
	for _, want := range [][]string{
		{"INFO", "3 keys applied, 3 accepted without effect, 1 unknown"},
		{"WARN key accepted without effect", "broker.conf:3", "key=sendMessageThreadPoolNums"},
		{"WARN key accepted, but this version does not act on it yet", "key=transactionTimeOut"},
		{"DEBUG", "key=useEpollNativeSelector"},
		{"WARN unknown key, ignored", "broker.conf:6", "key=brokerRol", "hint=did you mean brokerRole?"},
		{"WARN outdated spelling", "key=mapedFileSizeCommitLog", "now=mappedFileSizeCommitLog"},
		{"WARN a key stands twice", "key=brokerName", "broker.conf:1", "broker.conf:8"},
	} {
		if len(log.having(want...)) != 1 {
			t.Errorf("no line with %q in\n%s", want, strings.Join(log.lines, "\n"))
		}
	}
}

func TestStrictRefusesUnknownKeys(t *testing.T) {
	path := writeFile(t, "broker.conf", "brokerName=a\nbrokerRol=SLAVE\n")
	_, err := LoadBrokerConfig(path, propertyEnv(), slog.New(slog.DiscardHandler), true)
	if err == nil || !strings.Contains(err.Error(), `broker.conf:2: brokerRol = "SLAVE": unknown key; did you mean brokerRole?`) {
		t.Errorf("got %v", err)
	}
}

func TestBadValuesNameFileLineKeyAndValue(t *testing.T) {
	tests := []struct{ line, want string }{
		{"brokerId=one", `brokerId = "one": is not a whole number`},
		{"brokerId=", `brokerId = "": has no value`},
		{"brokerId=99999999999", `brokerId = "99999999999": is not in -1..2147483647`},
		{"listenPort=70000", `listenPort = "70000": is not in 3..65535`},
		{"listenPort=99999999999", `listenPort = "99999999999": does not fit in 32 bits`},
		{"autoCreateTopicEnable=yes", `autoCreateTopicEnable = "yes": is neither true nor false`},
		{"brokerRole=MASTER", `brokerRole = "MASTER": is not one of ASYNC_MASTER, SYNC_MASTER, SLAVE`},
		{"flushDiskType=sync_flush", `flushDiskType = "sync_flush": is not one of`},
		{"deleteWhen=24", `deleteWhen = "24": is not a list of hours`},
		{"deleteWhen=;", `deleteWhen = ";": names no hour of the day`},
		{"messageDelayLevel=1s 5x", `messageDelayLevel = "1s 5x": holds the level "5x"`},
		{"messageDelayLevel=1s s", `holds the level "s" whose number is not a whole number`},
		{"messageDelayLevel=", `messageDelayLevel = "": must hold 1 to 1024 levels`},
		{"storePathRootDir=", `storePathRootDir = "": must not be empty`},
		{"maxMessageSize=16777216", `maxMessageSize = "16777216": is not in 1..16515072`},
		{"logicalDiskSpaceCleanForciblyThreshold=x", `logicalDiskSpaceCleanForciblyThreshold = "x": is not a number`},
		{"sendMessageThreadPoolNums=many", `sendMessageThreadPoolNums = "many": is not a whole number`},
		{"defaultMessageRequestMode=PUSH", `defaultMessageRequestMode = "PUSH": is not one of PULL, POP`},
		{"aclEnable=true", `aclEnable = "true": refused: `},
		{"authenticationEnabled=true", `authenticationEnabled = "true": refused: `},
		{"dLegerPeers=127.0.0.1:40911", `dLegerPeers = "127.0.0.1:40911": holds "127.0.0.1:40911", which is not n<number>-host:port`},
		{"dLegerPeers=n0-a:1;n0-b:2", `names n0 twice`},
		{"brokerIP1=mq.example.com", `brokerIP1 = "mq.example.com": is not an IP address`},
		{"dLegerSelfId=0", `dLegerSelfId = "0": is not n and a number`},
		{"innerClientAuthenticationCredentials=\\u12", `broker.conf:2: `},
	}
	for _, test := range tests {
		err := loadBrokerError(t, "brokerName=a\n"+test.line+"\n")
		if !strings.Contains(err.Error(), "broker.conf:2: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", test.line, err, test.want)
		}
		if ExitCode(err) != exitFailed {
			t.Errorf("%s: exit code %d", test.line, ExitCode(err))
		}
	}
	err := loadBrokerError(t, "brokerId=x\nlistenPort=y\n")
	if strings.Count(err.Error(), "broker.conf:") != 2 {
		t.Errorf("got %v, want both problems", err)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := LoadBrokerConfig(filepath.Join(t.TempDir(), "none.conf"), propertyEnv(), slog.New(slog.DiscardHandler), false)
	if !errors.Is(err, os.ErrNotExist) || ExitCode(err) != exitFailed {
		t.Errorf("got %v, code %d", err, ExitCode(err))
	}
}

func TestIdentityChecks(t *testing.T) {
	dledger := "brokerName=g\nenableDLegerCommitLog=true\ndLegerGroup=g\ndLegerPeers=n0-a:1;n1-b:1;n2-c:1\n"
	tests := []struct {
		text, want string
		code       int
	}{
		{"brokerRole=SLAVE\nbrokerId=0", "Slave's brokerId must be > 0", 253},
		{"enableDLegerCommitLog=true\nenableControllerMode=true", "exclude each other", 252},
		{"brokerName=a b", "is not a name", 255},
		{"brokerClusterName=../x", "is not a name", 255},
		{"brokerName=" + strings.Repeat("n", 128), "is not a name", 255},
		{"namesrvAddr=nowhere", `The Name Server Address[nowhere] illegal, please set it as follows, "127.0.0.1:9876;192.168.0.1:9876"`, 253},
		{dledger + "dLegerSelfId=n5", "is not among dLegerPeers", 255},
		{dledger, "is not among dLegerPeers", 255},
		{strings.Replace(dledger, "dLegerGroup=g", "dLegerGroup=h", 1) + "dLegerSelfId=n1", `dLegerGroup = "h": is not the brokerName "g"`, 255},
	}
	for _, test := range tests {
		err := loadBrokerError(t, test.text)
		if !strings.Contains(err.Error(), test.want) || ExitCode(err) != test.code {
			t.Errorf("%q: got %v with code %d, want %s with %d", test.text, err, ExitCode(err), test.want, test.code)
		}
	}
	c, _ := loadBroker(t, dledger+"dLegerSelfId=n1")
	if c.BrokerID != 1 || c.DLegerPeers[2] != (DLedgerPeer{2, "c:1"}) {
		t.Errorf("got id %d, peers %v", c.BrokerID, c.DLegerPeers)
	}
	_, log := loadBroker(t, strings.Replace(dledger, ";n2-c:1", "", 1)+"dLegerSelfId=n1")
	if len(log.having("WARN an even number")) != 1 {
		t.Errorf("two members were not warned about: %q", log.lines)
	}
	if c, log = loadBroker(t, "brokerId=2"); c.BrokerID != 2 || len(log.having("WARN brokerId")) != 1 {
		t.Errorf("id %d; %q", c.BrokerID, log.lines)
	}
	if _, log = loadBroker(t, "brokerRole=SYNC_MASTER"); len(log.having("INFO SYNC_MASTER with ASYNC_FLUSH")) != 1 {
		t.Errorf("%q", log.lines)
	}
}

func TestRatiosAndPeriodsAreClamped(t *testing.T) {
	tests := []struct {
		text                 string
		used, force, warning int
		period               time.Duration
		warnings             int
	}{
		{"diskMaxUsedSpaceRatio=88", 84, 85, 90, 30 * time.Second, 1}, // in most copied tutorials
		{"diskSpaceWarningLevelRatio=99", 75, 85, 90, 30 * time.Second, 1},
		{"diskSpaceWarningLevelRatio=40", 38, 39, 40, 30 * time.Second, 2},
		{"diskMaxUsedSpaceRatio=1\ndiskSpaceCleanForciblyRatio=10", 10, 30, 90, 30 * time.Second, 2},
		{"registerNameServerPeriod=1000", 75, 85, 90, 10 * time.Second, 1},
		{"registerNameServerPeriod=600000", 75, 85, 90, 60 * time.Second, 1},
	}
	for _, test := range tests {
		c, log := loadBroker(t, test.text)
		if c.DiskMaxUsedSpaceRatio != test.used || c.DiskSpaceCleanForciblyRatio != test.force || c.DiskSpaceWarningLevelRatio != test.warning || c.RegisterNameServerPeriod != test.period {
			t.Errorf("%q: got %d %d %d %v", test.text, c.DiskMaxUsedSpaceRatio, c.DiskSpaceCleanForciblyRatio, c.DiskSpaceWarningLevelRatio, c.RegisterNameServerPeriod)
		}
		if got := len(log.having("WARN value moved")); got != test.warnings {
			t.Errorf("%q: %d warnings, want %d: %q", test.text, got, test.warnings, log.lines)
		}
	}
}

func TestSegmentsArePagesAndHoldAMessage(t *testing.T) {
	tests := []struct {
		text     string
		segment  int64
		message  int
		warnings int
	}{
		{"mappedFileSizeCommitLog=104857600", 104857600, 4 << 20, 0},
		{"mappedFileSizeCommitLog=100000000", 99999744, 4 << 20, 1},
		{"mappedFileSizeCommitLog=1048576", 1 << 20, 768 << 10, 1},
		{"mappedFileSizeCommitLog=65536", 64 << 10, 32 << 10, 1},
		{"mappedFileSizeCommitLog=65536\nmaxMessageSize=1000", 64 << 10, 1000, 0},
		{"mappedFileSizeCommitLog=2147483647", 1<<31 - 4096, 4 << 20, 1},
	}
	for _, test := range tests {
		c, log := loadBroker(t, test.text)
		if c.MappedFileSizeCommitLog != test.segment || c.MaxMessageSize != test.message || len(log.having("WARN value moved")) != test.warnings {
			t.Errorf("%q: segment %d, message %d, %q", test.text, c.MappedFileSizeCommitLog, c.MaxMessageSize, log.lines)
		}
	}
}

func TestNamesrvAddrPrecedence(t *testing.T) {
	env := []string{"NAMESRV_ADDR=env:1"}
	steps := []struct {
		name, text string
		env        []string
		cli        string
		want       string
		source     string
	}{
		{"default", "", nil, "", "", "default"},
		{"environment", "", env, "", "env:1", "environment NAMESRV_ADDR"},
		{"property of a start script", "", append([]string{"JAVA_OPT_EXT=-server -Drocketmq.namesrv.addr=prop:1"}, env...), "", "prop:1", "environment NAMESRV_ADDR"},
		{"file", "namesrvAddr = file:1 ; file:2 ;", env, "", "file:1;file:2", "broker.conf:1"},
		{"command line", "namesrvAddr=file:1", env, "cli:1;cli:2", "cli:1;cli:2", "command line -n"},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			c, _ := loadBroker(t, step.text, step.env...)
			if step.cli != "" {
				if err := c.OverrideNamesrvAddr(step.cli); err != nil {
					t.Fatal(err)
				}
			}
			item := findItem(t, c.Items(), "namesrvAddr")
			if item.Value != step.want || !strings.HasSuffix(item.Source, step.source) || strings.Join(c.NamesrvAddr, ";") != step.want {
				t.Errorf("got %q from %q", item.Value, item.Source)
			}
		})
	}
	c, _ := loadBroker(t, "")
	if err := c.OverrideNamesrvAddr("host"); ExitCode(err) != exitBadAddress {
		t.Errorf("got %v, code %d", err, ExitCode(err))
	}
	if err := loadBrokerError(t, "", "NAMESRV_ADDR=x"); ExitCode(err) != exitBadAddress {
		t.Errorf("got %v, code %d", err, ExitCode(err))
	}
}

func findItem(t *testing.T, items []ConfigItem, key string) ConfigItem {
	t.Helper()
	i := slices.IndexFunc(items, func(item ConfigItem) bool { return item.Key == key })
	if i < 0 {
		t.Fatalf("no item %s", key)
	}
	return items[i]
}

func TestItemsSayWhatIsInEffect(t *testing.T) {
	c, _ := loadBroker(t, "fileReservedTime=48\nsendMessageThreadPoolNums=16\nmapedFileSizeCommitLog=65536\ninitAuthenticationUser={\"password\":\"12345\"}\ndiskMaxUsedSpaceRatio=88")
	items := c.Items()
	if !slices.IsSortedFunc(items, func(a, b ConfigItem) int { return strings.Compare(a.Key, b.Key) }) {
		t.Error("not sorted")
	}
	want := []ConfigItem{
		{"fileReservedTime", "48", ":1", true, true},
		{"sendMessageThreadPoolNums", "16", ":2", false, false},
		{"mappedFileSizeCommitLog", "65536", ":3", false, true},
		{"initAuthenticationUser", "******", ":4", false, false},
		{"diskMaxUsedSpaceRatio", "84", ":5", false, true}, // the value in effect, not the one of the file
		{"listenPort", "10911", "default", true, true},
		{"storePathRootDir", "/home/user/store", "detected", true, true},
	}
	for _, w := range want {
		got := findItem(t, items, w.Key)
		if !strings.HasSuffix(got.Source, w.Source) {
			t.Errorf("%s: source %q, want %q", w.Key, got.Source, w.Source)
		}
		if got.Source = w.Source; got != w {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
}

// TestPrintedConfigurationLoadsAgain: what -p prints is a property file with the same meaning.
func TestPrintedConfigurationLoadsAgain(t *testing.T) {
	c, _ := loadBroker(t, `storePathRootDir=/data/a\\b消息`+"\nbrokerName=n1\ndeleteWhen=04;16\nmessageDelayLevel=1s 90s 2h 1d 0s\nstartAcceptSendRequestTimeStamp=1700000000000\ntraceTopicEnable=true\nsendMessageThreadPoolNums=16\n")
	var out bytes.Buffer
	if err := PrintItems(&out, c.Items(), false); err != nil {
		t.Fatal(err)
	}
	again, _ := loadBroker(t, out.String())
	if got, want := PropertiesText(again.Items()), PropertiesText(c.Items()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !strings.Contains(out.String(), "broker.conf:2\nbrokerName=n1\n") {
		t.Errorf("no source above a value of the file:\n%s", out.String())
	}
	if strings.Contains(out.String(), "sendMessageThreadPoolNums") && !strings.Contains(out.String(), "broker.conf:7, accepted without effect\nsendMessageThreadPoolNums=16\n") {
		t.Errorf("a key without effect is not marked:\n%s", out.String())
	}
	var important bytes.Buffer
	if err := PrintItems(&important, c.Items(), true); err != nil {
		t.Fatal(err)
	}
	if text := important.String(); !strings.Contains(text, "brokerName=n1\n") || strings.Contains(text, "defaultTopicQueueNums") {
		t.Errorf("-m prints\n%s", text)
	}
}

func TestEmptyAddressIsDetected(t *testing.T) {
	c, _ := loadBroker(t, "brokerIP1=")
	if c.BrokerIP1 == "" {
		t.Error("brokerIP1 is empty")
	}
	if c, _ = loadBroker(t, "brokerIP1=2001:db8::1"); c.BrokerIP1 != "2001:db8::1" {
		t.Errorf("got %q", c.BrokerIP1)
	}
}

func TestNoHome(t *testing.T) {
	if err := loadBrokerError(t, "", "HOME="); !strings.Contains(err.Error(), "storePathRootDir") {
		t.Errorf("got %v", err)
	}
	if c, _ := loadBroker(t, "storePathRootDir=/data", "HOME="); c.StorePathRootDir != "/data" {
		t.Errorf("got %q", c.StorePathRootDir)
	}
	if _, err := LoadNamesrvConfig("", propertyEnv("HOME="), slog.New(slog.DiscardHandler), false); err == nil {
		t.Error("a name server without a place for its settings was accepted")
	}
}

func TestNamesrvConfig(t *testing.T) {
	c, err := LoadNamesrvConfig("", propertyEnv(), slog.New(slog.DiscardHandler), true)
	if err != nil {
		t.Fatal(err)
	}
	if c.ListenPort != 9876 || c.KvConfigPath != "/home/user/namesrv/kvConfig.json" ||
		!c.EnableTopicList || c.OrderMessageEnable || c.ScanNotActiveBrokerInterval != 5*time.Second || c.WaitSecondsForService != 45*time.Second {
		t.Errorf("got %+v", c)
	}
	path := writeFile(t, "namesrv.conf", "listenPort=9886\norderMessageEnable=true\nbrokerName=x\n")
	log := &recordedLog{}
	if c, err = LoadNamesrvConfig(path, propertyEnv(), slog.New(log), false); err != nil {
		t.Fatal(err)
	}
	if c.ListenPort != 9886 || !c.OrderMessageEnable {
		t.Errorf("got %+v", c)
	}
	if len(log.having("WARN unknown key", "key=brokerName", "it is a key of BrokerIdentity")) != 1 {
		t.Errorf("%q", log.lines)
	}
	if got := findItem(t, c.Items(), "listenPort"); got.Value != "9886" || !got.Effect {
		t.Errorf("got %+v", got)
	}
	bad := writeFile(t, "namesrv.conf", "listenPort=x")
	if _, err := LoadNamesrvConfig(bad, propertyEnv(), slog.New(log), false); err == nil || !strings.Contains(err.Error(), `namesrv.conf:1: listenPort = "x"`) {
		t.Errorf("got %v", err)
	}
}

func TestSecretsStayOutOfErrorsAndLogs(t *testing.T) {
	path := writeFile(t, "broker.conf", "tls.server.keyPassword=hunter2\ninitAuthenticationUser=hunter2\ntls.server.keyPasswords=hunter2\n")
	log := &recordedLog{}
	c, err := LoadBrokerConfig(path, propertyEnv(), slog.New(log), false)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(log.lines, "\n") + PropertiesText(c.Items()); strings.Contains(all, "hunter2") {
		t.Errorf("a secret is shown:\n%s", all)
	}
	for _, line := range []string{`tls.server.keyPassword=hunter2\u`, "innerClientAuthenticationCredentials=hunter2\nbrokerId=x"} {
		if err := loadBrokerError(t, line); strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
	if _, err := LoadBrokerConfig(path, propertyEnv(), slog.New(log), true); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret under a misspelt key: %v", err)
	}
}

func TestRefuseForeignStore(t *testing.T) {
	root := t.TempDir()
	if err := refuseForeignStore(root); err != nil {
		t.Errorf("empty directory: %v", err)
	}
	if err := refuseForeignStore(filepath.Join(root, "none")); err != nil {
		t.Errorf("no directory: %v", err)
	}
	for _, foreign := range []string{"commitlog", "consumequeue", "config/topics.json"} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, foreign), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := refuseForeignStore(root); err == nil || !strings.Contains(err.Error(), "RocketMQ") {
			t.Errorf("%s: got %v", foreign, err)
		}
	}
}

func TestConfigurationOfAnotherCommand(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	c, err := brokerConfigOf(map[string]string{"brokerName": "broker-b", "listenPort": "10931", "storePathRootDir": "data", "brokerIP1": "127.0.0.1", "namesrvAddr": "127.0.0.1:9876"}, "rmq dev", log)
	if err != nil {
		t.Fatal(err)
	}
	if c.BrokerName != "broker-b" || c.ListenPort != 10931 || c.StorePathRootDir != "data" || c.BrokerIP1 != "127.0.0.1" || c.NamesrvAddr[0] != "127.0.0.1:9876" {
		t.Errorf("got %+v", c)
	}
	if item := findItem(t, c.Items(), "listenPort"); item.Source != "rmq dev" || item.Value != "10931" {
		t.Errorf("got %+v", item)
	}
	n, err := namesrvConfigOf(map[string]string{"listenPort": "9886", "kvConfigPath": "data/kv.json"}, "rmq dev")
	if err != nil || n.ListenPort != 9886 || n.KvConfigPath != "data/kv.json" {
		t.Errorf("got %+v, %v", n, err)
	}
	for _, values := range []map[string]string{
		{"storePathRootDir": "data", "listenPort": "x"},
		{"storePathRootDir": "data", "listenPort": "1"},
		{"storePathRootDir": "data", "brokerRole": "KING"},
		{"storePathRootDir": "data", "sendMessageThreadPoolNums": "1"},
		{"storePathRootDir": "data", "nonsense": "1"},
		{},
	} {
		if _, err := brokerConfigOf(values, "rmq dev", log); err == nil {
			t.Errorf("%v was accepted", values)
		}
	}
}

// An arbiter is offered at an address where it listens.
func TestArbiterAddressIsWhereItListens(t *testing.T) {
	for _, c := range []struct{ bind, want string }{{"127.0.0.1", "127.0.0.1"}, {"10.1.2.3", "10.1.2.3"}} {
		n, err := namesrvConfigOf(map[string]string{"bindAddress": c.bind, "kvConfigPath": "kv.json"}, "test")
		if err != nil {
			t.Fatal(err)
		}
		if n.ArbiterAddress != c.want {
			t.Errorf("bindAddress %s: arbiters are offered at %s", c.bind, n.ArbiterAddress)
		}
	}
	n, err := namesrvConfigOf(map[string]string{"bindAddress": "0.0.0.0", "kvConfigPath": "kv.json"}, "test")
	if err != nil {
		t.Fatal(err)
	}
	if n.ArbiterAddress == "" || n.ArbiterAddress == "0.0.0.0" {
		t.Errorf("on every interface: arbiters are offered at %q", n.ArbiterAddress)
	}
}
