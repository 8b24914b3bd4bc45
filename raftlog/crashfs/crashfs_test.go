package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"testing"
)

func mustCreate(t *testing.T, f *FS, name string) File {
	t.Helper()
	h, err := f.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSyncedDataAndNamesSurvive(t *testing.T) {
	f := New()
	must(t, f.MkdirAll("/a/b"))
	must(t, f.SyncDir("/a"))
	must(t, f.SyncDir("/"))
	h := mustCreate(t, f, "/a/b/x")
	_, err := h.WriteAt([]byte("hello"), 0)
	must(t, err)
	must(t, h.Sync())
	must(t, f.SyncDir("/a/b"))
	for seed := range uint64(50) {
		if got := f.CrashClone(seed).Dump()["/a/b/x"]; got != "hello" {
			t.Fatalf("seed %d: %q", seed, got)
		}
	}
}

// TestUnsyncedIsLostAtRandom checks that every outcome that the rules allow occurs, and none that they forbid.
func TestUnsyncedIsLostAtRandom(t *testing.T) {
	f := New()
	h := mustCreate(t, f, "x")
	old := bytes.Repeat([]byte{'o'}, 4*sector)
	_, err := h.WriteAt(old, 0)
	must(t, err)
	must(t, h.Sync())
	must(t, f.SyncDir("/"))
	fresh := bytes.Repeat([]byte{'n'}, 4*sector)
	_, err = h.WriteAt(fresh, 0)
	must(t, err)
	mustCreate(t, f, "y")
	seen := map[string]bool{}
	var withY int
	for seed := range uint64(400) {
		d := f.CrashClone(seed).Dump()
		x := d["/x"]
		if len(x) != 4*sector {
			t.Fatalf("size %d", len(x))
		}
		var shape []byte
		for i := 0; i < len(x); i += sector {
			if s := x[i : i+sector]; s != string(old[:sector]) && s != string(fresh[:sector]) {
				t.Fatalf("torn inside a sector: %q", s)
			}
			shape = append(shape, x[i])
		}
		seen[string(shape)] = true
		if _, ok := d["/y"]; ok {
			withY++
		}
	}
	if len(seen) != 16 {
		t.Fatalf("%d of 16 mixtures of old and new sectors seen", len(seen))
	}
	if withY == 0 || withY == 400 {
		t.Fatalf("the unsynced name survived %d of 400 times", withY)
	}
	if !maps.Equal(f.CrashClone(7).Dump(), f.CrashClone(7).Dump()) {
		t.Fatal("equal seeds gave different copies")
	}
}

// TestRenameIsWhole checks that a replacing rename leaves the old file or the new one.
func TestRenameIsWhole(t *testing.T) {
	f := New()
	for i, content := range []string{"old", "new"} {
		h := mustCreate(t, f, "tmp")
		_, err := h.WriteAt([]byte(content), 0)
		must(t, err)
		must(t, h.Sync())
		must(t, f.Rename("tmp", "x"))
		if i == 0 {
			must(t, f.SyncDir("/"))
		}
	}
	seen := map[string]int{}
	for seed := range uint64(200) {
		seen[f.CrashClone(seed).Dump()["/x"]]++
	}
	if len(seen) != 2 || seen["old"] == 0 || seen["new"] == 0 {
		t.Fatalf("contents after the crash: %v", seen)
	}
}

func TestUnsyncedTruncate(t *testing.T) {
	f := New()
	h := mustCreate(t, f, "x")
	_, err := h.WriteAt(bytes.Repeat([]byte{1}, 2*sector), 0)
	must(t, err)
	must(t, h.Sync())
	must(t, f.SyncDir("/"))
	must(t, h.Truncate(10))
	sizes := map[int]bool{}
	for seed := range uint64(100) {
		sizes[len(f.CrashClone(seed).Dump()["/x"])] = true
	}
	if !sizes[10] || !sizes[2*sector] {
		t.Fatalf("sizes after the crash: %v", sizes)
	}
	if n, _ := h.Size(); n != 10 {
		t.Fatalf("size is %d", n)
	}
}

func TestInject(t *testing.T) {
	f := New()
	h := mustCreate(t, f, "seg")
	release := f.Inject("fail sync path=seg nth=2")
	must(t, h.Sync())
	for range 2 {
		if err := h.Sync(); !errors.Is(err, ErrInjected) {
			t.Fatalf("got %v", err)
		}
	}
	release()
	must(t, h.Sync())

	defer f.Inject("fail write once")()
	if _, err := h.WriteAt([]byte{1}, 0); !errors.Is(err, ErrInjected) {
		t.Fatalf("got %v", err)
	}
	_, err := h.WriteAt([]byte{1}, 0)
	must(t, err)

	release = f.Inject("hang sync")
	done := make(chan error)
	go func() { done <- h.Sync() }()
	select {
	case err := <-done:
		t.Fatalf("did not hang: %v", err)
	default:
	}
	release()
	must(t, <-done)
	for _, bad := range []string{"", "fail", "melt sync", "fail sync nth=0", "fail sync color=red"} {
		if _, err := parseRule(bad); err == nil {
			t.Errorf("rule %q was taken", bad)
		}
	}
}

func TestOpsAreCounted(t *testing.T) {
	f := New()
	var log []string
	f.OnOp(func(op Op) { log = append(log, fmt.Sprint(op.Seq, op.Kind, op.Path)) })
	h := mustCreate(t, f, "x")
	_, err := h.WriteAt([]byte{1}, 0)
	must(t, err)
	must(t, h.Sync())
	must(t, f.Remove("x"))
	want := "[1create/x 2write/x 3sync/x 4remove/x]"
	if got := fmt.Sprint(log); got != want || f.Ops() != 4 {
		t.Fatalf("got %s", got)
	}
	if _, err := f.Open("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
}
