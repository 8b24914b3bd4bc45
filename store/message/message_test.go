package message

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// golden is the record of the protocol's description, offsets filled.
const golden = "00000068daa320a73610a6860000000100000000000000000000000200000000000000030000000000000000000000040102030400000005" +
	"00000000000000057f00000100002a9f0000000000000000000000000000000568656c6c6f0154000754414753016102"

func goldenMessage() Message {
	return Message{Topic: "T", QueueID: 1, BornTimestamp: 4, BornHost: netip.MustParseAddrPort("1.2.3.4:5"), StoreTimestamp: 5,
		StoreHost: netip.MustParseAddrPort("127.0.0.1:10911"), Body: []byte("hello"), Properties: []byte("TAGS\x01a\x02")}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenRecord(t *testing.T) {
	m := goldenMessage()
	b, err := m.AppendTo([]byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	b, ok := bytes.CutPrefix(b, []byte("before"))
	if !ok || len(b) != m.Size() {
		t.Fatalf("encoded %d bytes, Size says %d", len(b), m.Size())
	}
	v, err := ParseView(b)
	if err != nil {
		t.Fatal(err)
	}
	if v.QueueOffset() != Blank || v.PhysicalOffset() != Blank {
		t.Fatalf("offsets %d, %d, want blank", v.QueueOffset(), v.PhysicalOffset())
	}
	v.SetQueueOffset(2)
	v.SetPhysicalOffset(3)
	if got := hex.EncodeToString(v); got != golden {
		t.Fatalf("got  %s\nwant %s", got, golden)
	}
	if id := OffsetID(v.StoreHost(), v.PhysicalOffset()); id != "7F00000100002A9F0000000000000003" {
		t.Fatalf("id %s", id)
	}
}

func TestViewReadsWhatWasEncoded(t *testing.T) {
	long := strings.Repeat("t", 128)
	for _, m := range []Message{
		goldenMessage(),
		{Topic: long, QueueID: -1, Flag: 7, SysFlag: SysFlagCompressed | SysFlagCommit, BornTimestamp: 1 << 40,
			BornHost: netip.MustParseAddrPort("[2001:db8::1]:65535"), StoreTimestamp: 9, StoreHost: netip.MustParseAddrPort("10.0.0.1:1"),
			ReconsumeTimes: 3, PreparedTransactionOffset: 77, Body: []byte{0}, Properties: []byte("a\x01b")},
		{Topic: "x", BornHost: netip.MustParseAddrPort("1.1.1.1:1"), StoreHost: netip.MustParseAddrPort("[::1]:10911"),
			StoreTimestamp: -1, Body: []byte{}, Properties: []byte{}},
	} {
		b, err := m.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseView(append(b, "behind"...))
		if err != nil {
			t.Fatal(err)
		}
		want := m
		want.SysFlag = v.SysFlag()
		if got := v.Message(); !reflect.DeepEqual(normal(got), normal(want)) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if v6 := v.SysFlag()&SysFlagBornHostV6 != 0; v6 != m.BornHost.Addr().Is6() {
			t.Errorf("born host bit %v for %v", v6, m.BornHost)
		}
		if v6 := v.SysFlag()&SysFlagStoreHostV6 != 0; v6 != m.StoreHost.Addr().Is6() {
			t.Errorf("store host bit %v for %v", v6, m.StoreHost)
		}
		if wantMagic := map[bool]uint32{false: MagicV1, true: MagicV2}[len(m.Topic) > 127]; v.Magic() != wantMagic {
			t.Errorf("magic %#x for a topic of %d bytes", v.Magic(), len(m.Topic))
		}
		if !v.BodyCRCValid() {
			t.Error("body checksum is wrong")
		}
		v.SetStoreTimestamp(1234)
		if v.StoreTimestamp() != 1234 || v.BornHost() != m.BornHost || v.StoreHost() != m.StoreHost {
			t.Error("setting the store timestamp changed something else, or nothing")
		}
	}
}

func normal(m Message) Message {
	m.Body = append([]byte{}, m.Body...)
	m.Properties = append([]byte{}, m.Properties...)
	return m
}

func TestMappedAddressIsStoredAsIPv4(t *testing.T) {
	m := goldenMessage()
	m.BornHost = netip.MustParseAddrPort("[::ffff:1.2.3.4]:5")
	b, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := View(b).BornHost(); got != netip.MustParseAddrPort("1.2.3.4:5") {
		t.Fatalf("born host %v", got)
	}
	m.BornHost = netip.AddrPort{}
	if b, err = m.AppendTo(nil); err != nil || View(b).BornHost() != netip.MustParseAddrPort("0.0.0.0:0") {
		t.Fatalf("missing host reads %v, %v", View(b).BornHost(), err)
	}
}

func TestAppendToRefusesWhatDoesNotFit(t *testing.T) {
	for name, m := range map[string]Message{
		"topic":      {Topic: strings.Repeat("t", TopicBytesMax+1)},
		"properties": {Topic: "t", Properties: make([]byte, PropertyBytesMax+1)},
		"body":       {Topic: "t", Body: make([]byte, SizeMax)},
	} {
		dst := []byte("kept")
		got, err := m.AppendTo(dst)
		if !errors.Is(err, ErrTooLarge) || string(got) != "kept" {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestParseViewRefusesEveryTruncation(t *testing.T) {
	b := unhex(t, golden)
	for n := range len(b) {
		if _, err := ParseView(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}

func TestParseViewRefusesWrongLengths(t *testing.T) {
	for name, c := range map[string]struct {
		at    int
		value byte
	}{
		"size too small":           {3, 0x67},
		"size negative":            {0, 0x80},
		"magic of blank filler":    {4, 0xCB},
		"body length beyond end":   {87, 0x30},
		"body length negative":     {84, 0xFF},
		"topic beyond end":         {93, 0x7F},
		"topic length over 127":    {93, 0x80},
		"properties beyond end":    {96, 0x08},
		"properties short of end":  {96, 0x06},
		"born host suddenly v6":    {39, 0x10},
		"properties length signed": {95, 0x80},
	} {
		b := unhex(t, golden)
		b[c.at] = c.value
		if _, err := ParseView(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNextItem(t *testing.T) {
	first, second := unhex(t, golden), []byte{0, 0, 0, 9, 1, 2, 3, 4, 'x'}
	record := append(append([]byte{}, first...), second...)
	item, rest, magic, err := NextItem(record)
	if err != nil || !bytes.Equal(item, first) || magic != MagicV1 || !IsMessage(magic) {
		t.Fatalf("first item: %d bytes, magic %#x, %v", len(item), magic, err)
	}
	item, rest, magic, err = NextItem(rest)
	if err != nil || !bytes.Equal(item, second) || magic != 0x01020304 || IsMessage(magic) || len(rest) != 0 {
		t.Fatalf("second item: %d bytes, magic %#x, %d left, %v", len(item), magic, len(rest), err)
	}
	for _, bad := range [][]byte{nil, {0, 0, 0, 8, 1, 2, 3}, {0, 0, 0, 7, 1, 2, 3, 4}, {0, 0, 0, 10, 1, 2, 3, 4, 5}, {0xFF, 0, 0, 0, 1, 2, 3, 4}} {
		if _, _, _, err := NextItem(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("item %x: %v", bad, err)
		}
	}
}

// TestTagsCode has the values of Java's String.hashCode.
func TestTagsCode(t *testing.T) {
	for tag, want := range map[string]int64{
		"": 0, "a": 97, "TagA": 2598919, "hello": 99162322, "polygenelubricants": -2147483648,
		"中文": 646394, "😀": 1772899, "\xff": 0xFFFD,
	} {
		if got := TagsCode([]byte(tag)); got != want {
			t.Errorf("%q: %d, want %d", tag, got, want)
		}
	}
}

func TestOffsetID(t *testing.T) {
	for _, host := range []string{"127.0.0.1:10911", "[2001:db8::ff]:65535"} {
		h := netip.MustParseAddrPort(host)
		id := OffsetID(h, 1<<40+5)
		got, phys, err := ParseOffsetID(strings.ToLower(id))
		if err != nil || got != h || phys != 1<<40+5 {
			t.Errorf("%s: %v %d %v", id, got, phys, err)
		}
	}
	for _, bad := range []string{"", "7F", strings.Repeat("0", 31), strings.Repeat("G", 32), strings.Repeat("F", 32), strings.Repeat("0", 40)} {
		if _, _, err := ParseOffsetID(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSysFlag(t *testing.T) {
	f := SysFlagCompressed | SysFlagRollback | 2<<8
	if Transaction(f) != SysFlagRollback || Queued(f) || CompressorOf(f) != CompressorZstd {
		t.Error("fields of the system flag are misread")
	}
	f = WithTransaction(f, SysFlagNotTx)
	if Transaction(f) != SysFlagNotTx || !Queued(f) || f != SysFlagCompressed|2<<8 {
		t.Errorf("system flag %#x", f)
	}
	if CompressorOf(3<<8) != CompressorZlib || CompressorOf(1<<8) != CompressorLZ4 || Queued(SysFlagPrepared) || !Queued(SysFlagCommit) {
		t.Error("fields of the system flag are misread")
	}
}

func TestAccessorsDoNotAllocate(t *testing.T) {
	m := goldenMessage()
	m.BornHost = netip.MustParseAddrPort("[2001:db8::1]:9")
	b, err := m.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	if n := testing.AllocsPerRun(100, func() {
		v, err := ParseView(b)
		if err != nil {
			t.Fatal(err)
		}
		v.SetQueueOffset(1)
		v.SetPhysicalOffset(2)
		v.SetStoreTimestamp(3)
		tag, _ := v.Properties().GetBytes(PropertyTags)
		sum += len(v.Topic()) + len(v.Body()) + int(v.BornHost().Port()) + int(v.StoreHost().Port()) + int(TagsCode(tag)) +
			int(v.StoreTimestamp()) + int(v.ReconsumeTimes()) + int(v.PreparedTransactionOffset())
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	dst := make([]byte, 0, m.Size())
	if n := testing.AllocsPerRun(100, func() { dst, _ = m.AppendTo(dst[:0]) }); n != 0 {
		t.Errorf("AppendTo: %v allocations", n)
	}
	_ = sum
}
