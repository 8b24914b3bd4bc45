package message

import (
	"bytes"
	"testing"
)

// FuzzMessageRecord: any bytes either are refused or can be read in full and encoded to the same bytes again.
func FuzzMessageRecord(f *testing.F) {
	f.Add(unhex(f, golden))
	m := goldenMessage()
	m.Topic = string(make([]byte, 200))
	m.SysFlag = SysFlagCommit | SysFlagCompressed
	b, err := m.AppendTo(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0, 0, 0, 8, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		item, rest, magic, err := NextItem(b)
		if err != nil {
			return
		}
		if len(item)+len(rest) != len(b) {
			t.Fatal("bytes were lost")
		}
		v, err := ParseView(b)
		if err != nil {
			return
		}
		if !IsMessage(magic) || v.Size() != len(item) || v.StoredSize() != v.Size() {
			t.Fatalf("size %d, item %d", v.Size(), len(item))
		}
		m := v.Message()
		again, err := m.AppendTo(nil)
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		w, err := ParseView(again)
		if err != nil {
			t.Fatalf("written but not read: %v", err)
		}
		w.SetQueueOffset(v.QueueOffset())
		w.SetPhysicalOffset(v.PhysicalOffset())
		// What cannot come back: a wrong checksum, ports over 16 bits, an IPv4-mapped host, a needlessly long topic length.
		if v.BodyCRCValid() && w.SysFlag() == v.SysFlag() && w.Magic() == v.Magic() && bytes.Equal(hosts(w), hosts(v)) && !bytes.Equal(w, v) {
			t.Fatalf("encoded anew:\n%x\n%x", []byte(v), []byte(w))
		}
		v.Properties().Map()
	})
}

func hosts(v View) []byte {
	f := v.SysFlag()
	born := v[posBornHost:posStoreTimestamp(f)]
	return append(append([]byte{}, born...), v[posStoreHost(f):posReconsumeTimes(f)]...)
}

// FuzzProperties: readers agree with each other, and writers do what readers can see.
func FuzzProperties(f *testing.F) {
	f.Add([]byte("A\x011\x02B\x012"), "A", "x")
	f.Add([]byte("\x01\x02\x01\x01\x02A\x01"), "B", "")
	f.Fuzz(func(t *testing.T, b []byte, name, value string) {
		p := Properties(b)
		m := p.Map()
		got, ok := p.Get(name)
		if want, has := m[name]; ok != has || got != want {
			t.Fatalf("Get %q, Map %q", got, want)
		}
		deleted := p.Delete(name)
		if _, ok := deleted.Get(name); ok {
			t.Fatal("deleted and still there")
		}
		if CheckProperty(name, value) != nil {
			return
		}
		delete(m, name)
		set := p.Set(name, value)
		if got, ok := set.Get(name); !ok || got != value {
			t.Fatalf("set %q, got %q", value, got)
		}
		m[name] = value
		for k, v := range set.Map() {
			if m[k] != v {
				t.Fatalf("%q is %q, was %q", k, v, m[k])
			}
			delete(m, k)
		}
		if len(m) > 0 {
			t.Fatalf("lost %q", m)
		}
	})
}

// FuzzMsgId: an id that parses is the id of what it parsed to.
func FuzzMsgId(f *testing.F) {
	f.Add("7F00000100002A9F0000000000000003")
	f.Add("20010DB800000000000000000000000100002A9F0000000000000003")
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		host, phys, err := ParseOffsetID(id)
		if err != nil {
			return
		}
		again := OffsetID(host, phys)
		h2, p2, err := ParseOffsetID(again)
		if err != nil || p2 != phys || h2.Addr().Unmap() != host.Addr().Unmap() || h2.Port() != host.Port() {
			t.Fatalf("%s -> %v %d -> %s -> %v %d %v", id, host, phys, again, h2, p2, err)
		}
		if !host.Addr().Is4In6() && !bytes.EqualFold([]byte(again), []byte(id)) {
			t.Fatalf("%s became %s", id, again)
		}
	})
}
