package protocol

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"rmq/remoting/fastjson"
)

// A registration that Apache's 5.3.3 classes compressed, and the same one uncompressed.
const (
	registrationZip  = `eNpVj01rwzAMhr1d+g96NrrOLXOb9MO3HtYS2AdlYZdRjOOqbSCJg+0cSsh/n9LbEC9Ir/QgiTG26cG6ronoQS0EhGgi/qAPpWtALQXEskYy6xaUXG/TZfqaJFu5SgfG2DPpJZc84Ru+4t/Z5+H9Tee7A++BoGCuOI/3FkHBPtt/wYhM8wWXFOt/42Nn8guXIOFE6RPp1kPRmHqEi5kBAbbzPjt/GDqkHwScSx/voC6mCigAW2dvdCE9YN1jo9bXyhWm0prY6NrSkpnLRxFNdeywwwAqGf4AizZIdA==`
	registrationJSON = `{"filterServerList":["fs1"],"topicConfigSerializeWrapper":{"dataVersion":{"counter":2,"stateVersion":3,"timestamp":1795350449165},"topicConfigTable":{"T1":{"attributes":{"message.type":"FIFO"},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"T1","topicSysFlag":0,"writeQueueNums":8},"T2":{"attributes":{},"order":false,"perm":7,"readQueueNums":1,"topicFilterType":"SINGLE_TAG","topicName":"T2","topicSysFlag":0,"writeQueueNums":1}},"topicQueueMappingInfoMap":{"T1":{"bname":"b-a","currIdMap":{},"dirty":false,"epoch":1,"scope":"__global__","topic":"T1","totalQueues":4}}}}`
)

func javaRegistration(t testing.TB) (zip []byte, want *RegisterBrokerBody) {
	t.Helper()
	zip, err := base64.StdEncoding.DecodeString(registrationZip)
	if err != nil {
		t.Fatal(err)
	}
	if want, err = DecodeRegisterBrokerBody([]byte(registrationJSON), false, V5_3_3); err != nil {
		t.Fatal(err)
	}
	return zip, want
}

func TestCompressedRegistrationIsJavas(t *testing.T) {
	zip, want := javaRegistration(t)
	got, err := DecodeRegisterBrokerBody(zip, true, V5_3_3)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("read %+v, %v\nwant %+v", got, err, want)
	}
	again, err := want.EncodeCompressed()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := inflate(t, again), inflate(t, zip); !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q, Java\n%q", got, want)
	}
	if old, err := DecodeRegisterBrokerBody(zip, true, V4_9_4); err != nil || old.TopicConfigSerializeWrapper.TopicQueueMappingInfoMap != nil {
		t.Errorf("of a 4.x broker read %+v, %v", old, err)
	}
}

func inflate(t *testing.T, zip []byte) []byte {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(zip))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func deflate(t *testing.T, chunks ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	for _, c := range chunks {
		if _, err := w.Write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func block(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func TestCompressedRegistrationWithoutMappings(t *testing.T) {
	one := []byte{0, 0, 0, 1}
	zip := deflate(t, block(`{}`), one, block("T 4 8 6 SINGLE_TAG"), block("[]"))
	for _, version := range []int32{V4_9_4, V5_3_3} {
		b, err := DecodeRegisterBrokerBody(zip, true, version)
		if err != nil {
			t.Fatal(err)
		}
		want := TopicConfig{TopicName: "T", ReadQueueNums: 4, WriteQueueNums: 8, Perm: 6, TopicFilterType: SingleTag, Attributes: map[string]string{}}
		if got := b.TopicConfigSerializeWrapper.TopicConfigTable["T"]; !reflect.DeepEqual(got, want) {
			t.Errorf("read %+v, want %+v", got, want)
		}
	}
}

func TestBadRegistrationsAreRefused(t *testing.T) {
	one, none := []byte{0, 0, 0, 1}, []byte{0, 0, 0, 0}
	version, servers := block(`{}`), block("[]")
	zip, _ := javaRegistration(t)
	tests := map[string][]byte{
		"nothing":            {},
		"no zlib":            []byte("{}"),
		"cut off":            zip[:len(zip)/2],
		"bad checksum":       append(bytes.Clone(zip[:len(zip)-4]), 0, 0, 0, 0),
		"no topics":          deflate(t, version),
		"negative count":     deflate(t, version, []byte{255, 255, 255, 255}),
		"fewer topics":       deflate(t, version, []byte{127, 255, 255, 255}, block("T 4 8 6 SINGLE_TAG")),
		"short line":         deflate(t, version, one, block("T 4 8 6"), servers),
		"no number":          deflate(t, version, one, block("T x 8 6 SINGLE_TAG"), servers),
		"no filter type":     deflate(t, version, one, block("T 4 8 6 TAG"), servers),
		"no filter servers":  deflate(t, version, none),
		"bad version":        deflate(t, block(`[`), none, servers),
		"half a count":       deflate(t, version, none, servers, []byte{0, 0}),
		"bad mapping":        deflate(t, version, none, servers, one, block(`x`)),
		"missing mapping":    deflate(t, version, none, servers, one),
		"block over its cap": deflate(t, binary.BigEndian.AppendUint32(nil, registerBlockMax+1), make([]byte, registerBlockMax+1)),
	}
	for name, body := range tests {
		if b, err := DecodeRegisterBrokerBody(body, true, V5_3_3); err == nil {
			t.Errorf("%s: read %+v", name, b)
		}
	}
}

// A small body that inflates to more than the cap is given up at the cap, wherever it lies.
func TestRegistrationBombIsRefused(t *testing.T) {
	topics := deflate(t, block(`{}`), []byte{0, 0, 0, 1}, block("T 4 8 6 SINGLE_TAG"+strings.Repeat(" ", 100000)), block("[]"))
	trailer := deflate(t, block(`{}`), []byte{0, 0, 0, 0}, block("[]"), []byte{0, 0, 0, 0}, make([]byte, 100000))
	for name, body := range map[string][]byte{"topics": topics, "trailer": trailer} {
		for max, ok := range map[int]bool{200000: true, 90000: false, 20: false, 2: false} {
			if err := new(RegisterBrokerBody).decodeCompressed(body, V5_3_3, max); (err == nil) != ok || err != nil && !errors.Is(err, errInflated) {
				t.Errorf("%s, at most %d bytes: %v", name, max, err)
			}
		}
	}
}

func TestTopicsWithSpacesCannotBeCompressed(t *testing.T) {
	for _, topic := range []TopicConfig{{TopicName: "a b"}, {TopicName: "a", Attributes: map[string]string{"k": "v w"}}} {
		b := &RegisterBrokerBody{}
		b.TopicConfigSerializeWrapper.TopicConfigTable = map[string]TopicConfig{"x": topic}
		if out, err := b.EncodeCompressed(); err == nil {
			t.Errorf("%+v: wrote %d bytes", topic, len(out))
		}
	}
}

func TestEmptyRegistrationRoundTrip(t *testing.T) {
	zip, err := (&RegisterBrokerBody{}).EncodeCompressed()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRegisterBrokerBody(zip, true, V5_3_3)
	want := &RegisterBrokerBody{FilterServerList: []string{}}
	want.TopicConfigSerializeWrapper.TopicConfigTable = map[string]TopicConfig{}
	want.TopicConfigSerializeWrapper.TopicQueueMappingInfoMap = map[string]fastjson.Raw{}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v, want %+v", got, err, want)
	}
}
