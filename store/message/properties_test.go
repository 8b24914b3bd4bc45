package message

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestPropertiesReaders(t *testing.T) {
	p := Properties("A\x011\x02\x02B\x01\x02\x01x\x02no separator\x02C\x01x\x01y\x02A\x012\x02LAST\x01no end")
	want := map[string]string{"A": "2", "C": "x\x01y", "LAST": "no end"}
	if got := p.Map(); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for name, value := range want {
		if got, ok := p.Get(name); !ok || got != value {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	for _, name := range []string{"B", "", "x", "no separator", "AA"} {
		if got, ok := p.Get(name); ok {
			t.Errorf("%s: %q", name, got)
		}
	}
	var walked []string
	p.Walk(func(name, value []byte) bool {
		walked = append(walked, string(name))
		return len(walked) < 2
	})
	if !reflect.DeepEqual(walked, []string{"A", "C"}) {
		t.Errorf("walked %v", walked)
	}
}

func TestPropertiesWriters(t *testing.T) {
	p := Properties("A\x011\x02junk\x02B\x012")
	before := string(p)
	for name, c := range map[string]struct{ got, want Properties }{
		"set new":            {p.Set("C", "3"), Properties("A\x011\x02junk\x02B\x012\x02C\x013\x02")},
		"set known":          {p.Set("A", "9"), Properties("junk\x02B\x012\x02A\x019\x02")},
		"set last":           {p.Set("B", "9"), Properties("A\x011\x02junk\x02B\x019\x02")},
		"delete":             {p.Delete("A", "B"), Properties("junk\x02")},
		"delete unknown":     {p.Delete("X"), p},
		"append":             {AppendProperty(p, "C", "3"), Properties("A\x011\x02junk\x02B\x012\x02C\x013\x02")},
		"append to nothing":  {AppendProperty(nil, "C", "3"), Properties("C\x013\x02")},
		"set in nothing":     {Properties(nil).Set("C", "3"), Properties("C\x013\x02")},
		"delete from nought": {Properties(nil).Delete("C"), nil},
	} {
		if string(c.got) != string(c.want) {
			t.Errorf("%s: %q, want %q", name, c.got, c.want)
		}
	}
	if string(p) != before {
		t.Errorf("a writer changed its source to %q", p)
	}
}

func TestCheckProperty(t *testing.T) {
	if err := CheckProperty("k", "v v"); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"", "v"}, {"k", ""}, {"k\x01", "v"}, {"k", "\x02v"}} {
		if err := CheckProperty(c[0], c[1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func BenchmarkPropertiesGet(b *testing.B) {
	p := Properties("UNIQ_KEY\x017F0000011F9018B4AAC20000000A0000\x02CLUSTER\x01DefaultCluster\x02MSG_REGION\x01DefaultRegion\x02TRACE_ON\x01true\x02WAIT\x01true\x02TAGS\x01TagA\x02")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := p.GetBytes("TAGS"); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkAppendTo(b *testing.B) {
	m := goldenMessage()
	m.Body = []byte(strings.Repeat("x", 1024))
	dst := make([]byte, 0, m.Size())
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = m.AppendTo(dst[:0])
	}
}
