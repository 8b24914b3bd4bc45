package raftlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// encodeChecked returns v as JSON text followed by a line with its CRC32C.
func encodeChecked(v any) ([]byte, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli)), nil
}

// decodeChecked reads what encodeChecked has written.
func decodeChecked(b []byte, v any) error {
	i := bytes.LastIndex(b, []byte("crc32c "))
	if i < 0 {
		return errors.New("there is no CRC")
	}
	if got, want := string(b[i:]), fmt.Sprintf("crc32c %08x\n", crc32.Checksum(b[:i], castagnoli)); got != want {
		return fmt.Errorf("it has %q, computed %q", got, want)
	}
	return json.Unmarshal(b[:i], v)
}
