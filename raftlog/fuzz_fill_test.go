package raftlog

import (
	"encoding/json"
	"testing"

	"rmq/raftlog/crashfs"
)

// FuzzFill gives a Seeder any point and any bytes: it takes them or not, and only a directory that holds what the point says becomes
// a log.
func FuzzFill(f *testing.F) {
	s := trimmedSource(f)
	point, err := json.Marshal(s.point)
	if err != nil {
		f.Fatal(err)
	}
	bare, err := json.Marshal(s.point.WithoutBytes())
	if err != nil {
		f.Fatal(err)
	}
	all := make([]byte, s.point.End-s.point.Min)
	if _, err := s.log.ReadAt(all, s.point.Min); err != nil {
		f.Fatal(err)
	}
	f.Add(point, all[:20_000])
	f.Add(point, all)
	f.Add(bare, []byte(nil))
	f.Fuzz(func(t *testing.T, point, b []byte) {
		var p FillPoint
		if json.Unmarshal(point, &p) != nil {
			return
		}
		disk := crashfs.New()
		seed, err := OpenSeeder("/d/log", fillOptions(disk), p)
		if err != nil {
			return
		}
		bad := seed.Write(b)
		committed := seed.Commit() == nil
		if err := seed.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := Open("/d/log", fillOptions(disk))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		switch last := l.Status().LastIndex; {
		case l.Recovery().Filling == committed:
			t.Fatal("filled or not?")
		case committed && !p.Bare && p.EndIndex >= p.First && last != p.EndIndex:
			t.Fatalf("it ends with entry %d, the point with %d (%v)", last, p.EndIndex, bad)
		}
		checkLog(t, l)
	})
}
