package namesrv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
)

func openKV(t *testing.T, path string) *KVConfig {
	t.Helper()
	kv, err := OpenKVConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kv.Close(); err != nil {
			t.Error(err)
		}
	})
	return kv
}

func put(t *testing.T, kv *KVConfig, namespace, key, value string) {
	t.Helper()
	if err := kv.Put(namespace, key, value); err != nil {
		t.Fatal(err)
	}
}

func TestKVConfigIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "as", "needed", "kvConfig.json")
	kv := openKV(t, path)
	if _, ok := kv.Get("n", "k"); ok {
		t.Fatal("an empty configuration has a value")
	}
	put(t, kv, OrderTopicNamespace, "T", "b-a:4;b-b:4")
	put(t, kv, OrderTopicNamespace, "U", `<"&\>`)
	put(t, kv, "n", "k", "")
	if err := kv.Delete(OrderTopicNamespace, "T"); err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete("n", "no such key"); err != nil {
		t.Fatal(err)
	}
	if err := kv.Replace("whole", map[string]string{"a": "1"}); err != nil {
		t.Fatal(err)
	}
	if err := kv.Replace("whole", map[string]string{"b": "2"}); err != nil {
		t.Fatal(err)
	}
	again := openKV(t, path)
	for namespace, want := range map[string]map[string]string{
		OrderTopicNamespace: {"U": `<"&\>`}, "n": {"k": ""}, "whole": {"b": "2"},
	} {
		if got, ok := again.Namespace(namespace); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("namespace %s holds %v, want %v", namespace, got, want)
		}
	}
	if _, ok := again.Namespace("no such namespace"); ok {
		t.Error("a namespace that was never written to")
	}
}

// An operator moves from Apache's name server by keeping the file.
func TestKVConfigReadsApachesFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvConfig.json")
	text := "{\n\t\"configTable\":{\n\t\t\"ORDER_TOPIC_CONFIG\":{\n\t\t\t\"T\":\"broker-a:4\"\n\t\t}\n\t}\n}"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	kv := openKV(t, path)
	if v, _ := kv.Get(OrderTopicNamespace, "T"); v != "broker-a:4" {
		t.Fatalf("T is ordered as %q", v)
	}
	put(t, kv, OrderTopicNamespace, "T", "broker-a:4")
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(strings.TrimSpace(string(written)), ": ", ":"); got != text {
		t.Fatalf("the file became\n%s", got)
	}
}

func TestKVConfigRefusesABrokenFile(t *testing.T) {
	for _, text := range []string{`{"configTable":{`, `{"configTable":{"n":5}}`, ""} {
		path := filepath.Join(t.TempDir(), "kvConfig.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKVConfig(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("file %q: %v", text, err)
		}
	}
	if _, err := OpenKVConfig(t.TempDir() + "/"); err == nil {
		t.Error("a directory was taken for the file")
	}
}

// A change that is not on disk is not made.
func TestKVConfigWriteFails(t *testing.T) {
	dir := t.TempDir()
	kv := openKV(t, filepath.Join(dir, "kvConfig.json"))
	put(t, kv, "n", "k", "old")
	if err := os.Mkdir(filepath.Join(dir, "kvConfig.json.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := kv.Put("n", "k", "new"); err == nil {
		t.Fatal("the write succeeded")
	}
	if v, _ := kv.Get("n", "k"); v != "old" {
		t.Fatalf("the value is %q", v)
	}
	put(t, kv, "n", "k", "new") // the failed write cleared its place
}

// A crash can leave a half-written temporary file behind, never a half-written configuration.
func TestKVConfigIgnoresALeftOverTemporaryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvConfig.json")
	put(t, openKV(t, path), "n", "k", "v")
	if err := os.WriteFile(path+".tmp", []byte(`{"configTable":{"n":{"k":"tor`), 0o644); err != nil {
		t.Fatal(err)
	}
	kv := openKV(t, path)
	if v, _ := kv.Get("n", "k"); v != "v" {
		t.Fatalf("the value is %q", v)
	}
	put(t, kv, "n", "k", "w")
	if v, _ := openKV(t, path).Get("n", "k"); v != "w" {
		t.Fatalf("the value is %q", v)
	}
}

func TestKVConfigLimits(t *testing.T) {
	kv := openKV(t, filepath.Join(t.TempDir(), "kvConfig.json"))
	for what, e := range map[string][3]string{
		"no namespace":      {"", "k", "v"},
		"no key":            {"n", "", "v"},
		"long key":          {"n", strings.Repeat("k", kvNameBytesMax+1), "v"},
		"control character": {"n\n", "k", "v"},
		"key not UTF-8":     {"n", "\xff", "v"},
		"long value":        {"n", "k", strings.Repeat("v", kvValueBytesMax+1)},
		"value not UTF-8":   {"n", "k", "\xff"},
	} {
		if err := kv.Put(e[0], e[1], e[2]); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	full := map[string]string{}
	for i := range kvEntriesMax {
		full[fmt.Sprint(i)] = ""
	}
	if err := kv.Replace("n", full); err != nil {
		t.Fatal(err)
	}
	if err := kv.Put("n", "one more", ""); !errors.Is(err, ErrLimit) {
		t.Errorf("an entry too many: %v", err)
	}
	if _, ok := kv.Get("n", "one more"); ok {
		t.Error("a refused entry was kept")
	}
}

// Readers go on while writers write; the race detector watches.
func TestKVConfigConcurrently(t *testing.T) {
	kv := openKV(t, filepath.Join(t.TempDir(), "kvConfig.json"))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 5 {
				if err := kv.Put("n", fmt.Sprint(i, " ", j), "v"); err != nil {
					t.Error(err)
				}
				entries, _ := kv.Namespace("n")
				for key := range entries {
					kv.Get("n", key)
				}
			}
		})
	}
	wg.Wait()
	if entries, _ := kv.Namespace("n"); len(entries) != 20 {
		t.Fatalf("%d entries were kept", len(entries))
	}
}
