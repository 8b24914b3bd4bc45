package main

import (
	"slices"
	"strings"
	"testing"
)

func TestKeyTableIsComplete(t *testing.T) {
	specs, err := parseKeys()
	if err != nil {
		t.Fatal(err)
	}
	// Totals over RocketMQ's configuration classes; a key that two classes have counts twice, as it does there.
	got := map[treatment]int{}
	total := 0
	types := []string{"int", "long", "double", "boolean", "String", "BrokerRole", "FlushDiskType", "MessageRequestMode", "MetricsExporterType", "JraftConfig"}
	seen := map[string]bool{}
	for _, s := range specs {
		if id := s.Class + " " + s.Key; seen[id] {
			t.Errorf("%s stands twice", id)
		} else {
			seen[id] = true
		}
		if s.Note == "" || s.Since == "" || s.Default == "" {
			t.Errorf("%s %s: a column is empty", s.Class, s.Key)
		}
		if s.Class == "Outside" || s.Class == "Rmq" {
			continue
		}
		got[s.Treatment]++
		total++
		if !slices.Contains(types, s.Type) {
			t.Errorf("%s has the unknown type %q", s.Key, s.Type)
		}
	}
	want := map[treatment]int{honour: 242, accept: 275, refuse: 10}
	for _, kind := range []treatment{honour, accept, refuse} {
		if got[kind] != want[kind] {
			t.Errorf("treatment %s: %d keys, want %d", kind, got[kind], want[kind])
		}
	}
	if total != 527 {
		t.Errorf("%d keys, want 527", total)
	}
}

func TestKeysWithAnEffectAreKeysToHonour(t *testing.T) {
	// Counted among the keys without meaning here, but a name server may serve groups of RocketMQ brokers too.
	const actsForOthers = "supportActingMaster"
	for role, settings := range map[string]map[string]setting{roleBroker: (&BrokerConfig{}).settings(), roleNamesrv: (&NamesrvConfig{}).settings()} {
		table, err := newKeyTable(role)
		if err != nil {
			t.Fatal(err)
		}
		for key := range settings {
			if spec, alias, ok := table.find(key); !ok || alias || spec.Treatment != honour && key != actsForOthers {
				t.Errorf("%s acts on %s, which the key table has as %q", role, key, spec.Treatment)
			}
		}
	}
}

func TestFindFollowsOldSpellingsAndPrefixes(t *testing.T) {
	table, err := newKeyTable(roleBroker)
	if err != nil {
		t.Fatal(err)
	}
	if spec, alias, ok := table.find("mapedFileSizeCommitLog"); !ok || !alias || spec.Key != "mappedFileSizeCommitLog" {
		t.Errorf("old spelling: got %+v %t %t", spec, alias, ok)
	}
	if spec, alias, ok := table.find("tieredStoreFilePath"); !ok || alias || spec.Key != "tieredStore*" {
		t.Errorf("prefix: got %+v %t %t", spec, alias, ok)
	}
	if _, _, ok := table.find("brokername"); ok {
		t.Error("keys are found whatever their case; RocketMQ compares it")
	}
	specs, err := parseKeys()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if s.Type == "alias" && !slices.ContainsFunc(specs, func(o keySpec) bool { return o.Key == s.Default }) {
			t.Errorf("%s is an alias of %s, which is no key", s.Key, s.Default)
		}
	}
}

func TestHint(t *testing.T) {
	tests := []struct{ role, key, want string }{
		{roleBroker, "brokerRol", "did you mean brokerRole?"},
		{roleBroker, "flushDiskTyp", "did you mean flushDiskType?"},
		{roleBroker, "brokername", "did you mean brokerName? Upper and lower case matter"},
		{roleBroker, "namesrvAddrs", "did you mean namesrvAddr?"},
		{roleBroker, "kvConfigPath", "it is a key of NamesrvConfig, not of a broker file"},
		{roleNamesrv, "brokerRole", "it is a key of MessageStoreConfig, not of a namesrv file"},
		{roleBroker, "completelyDifferentThing", ""},
	}
	for _, test := range tests {
		table, err := newKeyTable(test.role)
		if err != nil {
			t.Fatal(err)
		}
		if got := table.hint(test.key); got != test.want {
			t.Errorf("hint(%s) for %s = %q, want %q", test.key, test.role, got, test.want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "axc", 1}, {"abc", "bc", 1}, {"kitten", "sitting", 3}}
	for _, test := range tests {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		key, value string
		refused    bool
	}{
		{"messageStorePlugIn", "", false},
		{"messageStorePlugIn", "org.example.Store", true},
		{"aclEnable", "false", false},
		{"aclEnable", "TRUE", true},
		{"readUnCommitted", "true", true},
		{"duplicationEnable", "true", true},
		{"duplicationEnable", "false", false},
		{"readOnlyCommitLogStorePaths", "/a", true},
		{"authenticationProvider", "org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider", false},
		{"authenticationProvider", "com.example.Mine", true},
		{"authenticationEnabled", "true", true},
		{"authenticationEnabled", "false", false},
		{"authorizationEnabled", "true", true},
		{"tls.server.mode", "enforcing", true},
		{"tls.server.mode", "permissive", false},
		{"useTLS", "true", true},
		{"storePathCommitLog", "/a/commitlog", false},
		{"storePathCommitLog", "/a/commitlog,/b/commitlog", true},
		{"brokerConfigPaths", "a.conf:b.conf", true},
	}
	table, err := newKeyTable(roleBroker)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		spec, _, ok := table.find(test.key)
		if !ok {
			t.Fatalf("no key %s", test.key)
		}
		if why := spec.refusal(test.value); (why != "") != test.refused {
			t.Errorf("%s = %q: refusal %q, want refused = %t", test.key, test.value, why, test.refused)
		}
	}
	if spec, _, ok := table.find("brokerConfigPaths"); !ok || !strings.Contains(spec.refusal("x"), "Container files are not supported") {
		t.Error("container files are not called by their name")
	}
}
