package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseStatCPU(t *testing.T) {
	line := []byte("4711 (rmq) broker) S 1 4711 4711 0 -1 4194560 5000 0 0 0 1234 66 0 0 20 0 9 0 1000 100 200")
	got, err := parseStatCPU(line)
	if err != nil || got != 13 {
		t.Errorf("got %v s, %v; want 13", got, err)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", "1 (x) S 1 2 3 4 5 6 7 8 9 10 eleven twelve 13"} {
		if _, err := parseStatCPU([]byte(bad)); err == nil {
			t.Errorf("%q was read without an error", bad)
		}
	}
}

func TestReadUsageOfThisProcess(t *testing.T) {
	u, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal("this test needs /proc: ", err)
	}
	if u.RSSBytes < 1<<20 || u.AnonBytes <= 0 || u.AnonBytes > u.RSSBytes {
		t.Errorf("usage %+v", u)
	}
}

func TestSpread(t *testing.T) {
	if got := newSpread([]float64{9, 1, 5}); got != (Spread{5, 1, 9}) {
		t.Errorf("odd: %+v", got)
	}
	if got := newSpread([]float64{4, 1, 2, 9}); got != (Spread{3, 1, 9}) {
		t.Errorf("even: %+v", got)
	}
}

func sampleComparison() *Comparison {
	c := &Comparison{
		StartedAt: time.Unix(1795350449, 0).UTC(), Rounds: 3,
		Machine:    Machine{CPU: "Some CPU", Cores: 2, MemoryGiB: 24, Kernel: "Linux 6"},
		Contenders: []ContenderInfo{{"rmq", "rmq 1"}, {"apache-5.3.3", "Apache RocketMQ 5.3.3"}},
		Scenarios:  scenarios()[:1],
	}
	for round, rate := range []float64{300, 100, 200} {
		c.Samples = append(c.Samples,
			Sample{Contender: "rmq", Scenario: "async-16x64", Round: round + 1, MsgsPerS: rate * 10, P99: 2, BrokerRSS: 50 << 20, BrokerCPU: 5},
			Sample{Contender: "apache-5.3.3", Scenario: "async-16x64", Round: round + 1, MsgsPerS: rate, P99: 8, BrokerRSS: 1000 << 20, BrokerCPU: 50, Failed: 1})
	}
	c.summarize()
	return c
}

func TestSummaryAndReport(t *testing.T) {
	c := sampleComparison()
	if len(c.Summary) != 2 || c.Summary[0].MsgsPerS != (Spread{2000, 1000, 3000}) || c.Summary[1].Failed != 3 {
		t.Fatalf("summary %+v", c.Summary)
	}
	text := c.markdown()
	for _, want := range []string{
		"Some CPU, 2 cores, 24 GiB",
		"| rmq | 2000 (1000 - 3000) |",
		"| apache-5.3.3 | 200 (100 - 300) |",
		"rmq against apache-5.3.3: 10.00 x the rate, 0.25 x the p99, 0.10 x the broker CPU per message, 0.05 x the resident memory.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q:\n%s", want, text)
		}
	}
}

func TestReportFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	var out strings.Builder
	if err := sampleComparison().write(&out, dir, "quick"); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "quick.md"))
	if err != nil || string(md) != out.String() {
		t.Errorf("quick.md differs from what was printed (%v)", err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "quick.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Comparison
	if err := json.Unmarshal(data, &back); err != nil || len(back.Samples) != 6 || back.Summary[0].P99.Median != 2 {
		t.Errorf("quick.json: %v %+v", err, back)
	}
}

func TestScenarioPicking(t *testing.T) {
	picked, err := pickScenarios([]string{"sync-64x1", "async-16x64"})
	if err != nil || len(picked) != 2 || picked[0].Name != "async-16x64" {
		t.Errorf("picked %+v, %v", picked, err)
	}
	if _, err := pickScenarios([]string{"nope"}); err == nil {
		t.Error("an unknown scenario was picked")
	}
	groups := byFlush(scenarios())
	if len(groups) != 2 || groups[0][0].Flush != asyncFlush || groups[1][0].Flush != syncFlush {
		t.Errorf("groups %+v", groups)
	}
	for _, s := range scenarios() {
		if o := s.produce("127.0.0.1:1", time.Second, time.Second); o.output != "" {
			t.Errorf("%s: output %q", s.Name, o.output)
		} else if o.output = outputText; o.validate() != nil {
			t.Errorf("%s: %v", s.Name, o.validate())
		}
	}
}

func TestApacheCommandKeepsToItsDirectory(t *testing.T) {
	a := &apache{release: "5.3.3", heap: "512m", java: "/usr/bin/java", classPath: "a.jar:b.jar"}
	program, args := a.command(roleBroker, "/run/1", "/run/1/broker.properties")
	line := program + " " + strings.Join(args, " ")
	for _, want := range []string{"-Xms512m -Xmx512m", "-Duser.home=/run/1/home", "-Djava.io.tmpdir=/run/1/tmp",
		"-cp a.jar:b.jar org.apache.rocketmq.broker.BrokerStartup -c /run/1/broker.properties"} {
		if !strings.Contains(line, want) {
			t.Errorf("command lacks %q: %s", want, line)
		}
	}
}

func TestBrokerConfig(t *testing.T) {
	text := configText(roleBroker, "/run/1", syncFlush, portSet{nameServer: 9876, broker: 10911})
	for _, want := range []string{"flushDiskType=SYNC_FLUSH\n", "listenPort=10911\n", "namesrvAddr=127.0.0.1:9876\n", "storePathRootDir=/run/1/store\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("configuration lacks %q:\n%s", want, text)
		}
	}
	if got := configText(roleNameServer, "/run/1", syncFlush, portSet{nameServer: 9876}); got != "listenPort=9876\n" {
		t.Errorf("name server: %q", got)
	}
}

func TestFreePortsLeaveRoomForTheBrokersOthers(t *testing.T) {
	p, err := freePorts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []int{p.broker - 2, p.broker, p.broker + 1} {
		if port == p.nameServer || port < 1024 || port > 65535 {
			t.Errorf("ports %+v", p)
		}
	}
}

func TestClassPathWithAMissingJarIsRefused(t *testing.T) {
	dir := t.TempDir()
	jar := filepath.Join(dir, "a.jar")
	file := filepath.Join(dir, "class.path")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(jar, "")
	write(file, jar+"\n")
	if path, err := readClassPath(file); err != nil || path != jar {
		t.Errorf("got %q, %v", path, err)
	}
	write(file, jar+string(filepath.ListSeparator)+filepath.Join(dir, "gone.jar"))
	if _, err := readClassPath(file); err == nil {
		t.Error("a class path with a missing jar was accepted")
	}
	write(file, "\n")
	if _, err := readClassPath(file); err == nil {
		t.Error("an empty class path was accepted")
	}
}

func TestServersInheritNoOtherCluster(t *testing.T) {
	got := serverEnvironment([]string{"PATH=/bin", "HOME=/root", "NAMESRV_ADDR=1.2.3.4:9876", "GOGC=off"}, "/run/1/home")
	if want := []string{"PATH=/bin", "HOME=/run/1/home"}; !slices.Equal(got, want) {
		t.Errorf("environment %q, want %q", got, want)
	}
}

func TestProcessIsEndedAndReportsHow(t *testing.T) {
	dir := t.TempDir()
	p, err := startProcess("sleeper", dir, filepath.Join(dir, "out"), "sleep", "60")
	if err != nil {
		t.Fatal("this test needs the program sleep: ", err)
	}
	if err := p.ended(); err != nil {
		t.Errorf("running, but %v", err)
	}
	if err := p.stop(10 * time.Second); err != nil {
		t.Error(err)
	}
	if err := p.ended(); err == nil || !strings.Contains(err.Error(), "sleeper") {
		t.Errorf("stopped, but ended says %v", err)
	}
	stubborn, err := startProcess("stubborn", dir, filepath.Join(dir, "out2"), "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
	if err != nil {
		t.Fatal("this test needs the program sh: ", err)
	}
	waitForOutput(t, filepath.Join(dir, "out2"))
	if err := stubborn.stop(10 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a process that ignores SIGTERM: %v", err)
	}
}

// waitForOutput returns once a file has something in it.
func waitForOutput(t *testing.T, file string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(file); err == nil && len(text) > 0 {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("no output")
		}
	}
}
