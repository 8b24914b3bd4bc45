package protocol

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"os"
	"testing"
)

// vector is one recorded exchange.
type vector struct {
	Code     int32
	Side     string
	Request  *vectorFrame
	Response *vectorFrame
}

// vectorFrame is a recorded frame and what the recorder read from it.
type vectorFrame struct {
	Frame  []byte
	Header struct {
		Code      int32
		Language  json.RawMessage // a name, or in binary frames left out
		Version   int32
		Opaque    int32
		Flag      int32
		Remark    *string
		ExtFields map[string]string
	}
	BodyLen       int
	SerializeType Codec
}

// body returns the bytes after the header.
func (f *vectorFrame) body() []byte {
	return f.Frame[8+binary.BigEndian.Uint32(f.Frame[4:])&0xffffff:]
}

func readVectors(t testing.TB) []vector {
	t.Helper()
	file, err := os.Open("testdata/remoting-4.9.8.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(out) < 100 {
		t.Fatalf("%d vectors, want at least 100", len(out))
	}
	return out
}

// vectorFrames returns every recorded frame.
func vectorFrames(t testing.TB) []*vectorFrame {
	var out []*vectorFrame
	for _, v := range readVectors(t) {
		for _, f := range []*vectorFrame{v.Request, v.Response} {
			if f != nil {
				out = append(out, f)
			}
		}
	}
	return out
}
