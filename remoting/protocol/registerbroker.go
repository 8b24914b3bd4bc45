package protocol

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"rmq/remoting/fastjson"
)

// Caps on a compressed registration, whatever lengths it declares.
const (
	registerInflatedMax = 64 << 20 // bytes after inflating; 50,000 topics need about 5 MiB
	registerBlockMax    = 1 << 20  // bytes of one length-prefixed block
)

// RegisterBrokerBody is the body of REGISTER_BROKER: all topics of a broker, or the changed ones.
type RegisterBrokerBody struct {
	TopicConfigSerializeWrapper TopicConfigAndMappingSerializeWrapper `json:"topicConfigSerializeWrapper"`
	FilterServerList            []string                              `json:"filterServerList"`
}

// EncodeCompressed writes the body in its compressed form, for a header with compressed=true and a version of at least
// V5_0_0. That form has no room for the topics' Order and TopicSysFlag.
func (b *RegisterBrokerBody) EncodeCompressed() ([]byte, error) {
	var out bytes.Buffer
	w := blockWriter{zip: zlib.NewWriter(&out)}
	topics := b.TopicConfigSerializeWrapper.TopicConfigTable
	w.json(b.TopicConfigSerializeWrapper.DataVersion)
	w.int32(len(topics))
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		topic := topics[name]
		w.topic(&topic)
	}
	w.json(b.FilterServerList)
	mappings := b.TopicConfigSerializeWrapper.TopicQueueMappingInfoMap
	w.int32(len(mappings))
	for _, name := range slices.Sorted(maps.Keys(mappings)) {
		w.json(mappings[name])
	}
	if err := errors.Join(w.err, w.zip.Close()); err != nil {
		return nil, fmt.Errorf("protocol: compressed registration: %w", err)
	}
	return out.Bytes(), nil
}

// blockWriter writes the blocks of a compressed registration and keeps the first error.
type blockWriter struct {
	zip *zlib.Writer
	err error
}

func (w *blockWriter) int32(n int) {
	if w.err == nil {
		_, w.err = w.zip.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
	}
}

func (w *blockWriter) block(text []byte) {
	w.int32(len(text))
	if w.err == nil {
		_, w.err = w.zip.Write(text)
	}
}

func (w *blockWriter) json(v any) {
	text, err := fastjson.Marshal(v)
	w.err = errors.Join(w.err, err)
	w.block(text)
}

// topic writes a topic as a line: name, read queues, write queues, permission, filter type, attributes, with single
// spaces between them.
func (w *blockWriter) topic(c *TopicConfig) {
	attributes, err := fastjson.Marshal(c.Attributes)
	if c.Attributes == nil {
		attributes = []byte("{}")
	}
	if strings.Contains(c.TopicName, " ") || bytes.Contains(attributes, []byte(" ")) {
		err = errors.Join(err, fmt.Errorf("topic %q or its attributes have a space", c.TopicName))
	}
	w.err = errors.Join(w.err, err)
	filter := c.TopicFilterType
	if filter == "" {
		filter = SingleTag
	}
	w.block(fmt.Appendf(nil, "%s %d %d %d %s %s", c.TopicName, c.ReadQueueNums, c.WriteQueueNums, c.Perm, filter, attributes))
}

// DecodeRegisterBrokerBody reads a registration. compressed is the header's member, version the command's: brokers from
// V5_0_0 on append their queue mappings to the compressed form.
func DecodeRegisterBrokerBody(body []byte, compressed bool, version int32) (*RegisterBrokerBody, error) {
	b := &RegisterBrokerBody{}
	if !compressed {
		return b, DecodeBody(body, b)
	}
	if err := b.decodeCompressed(body, version, registerInflatedMax); err != nil {
		return nil, fmt.Errorf("protocol: compressed registration: %w", err)
	}
	return b, nil
}

// decodeCompressed reads the compressed form, of which no more than inflatedMax bytes may come.
func (b *RegisterBrokerBody) decodeCompressed(body []byte, version int32, inflatedMax int) error {
	zip, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	r := blockReader{in: bufio.NewReader(zip), left: inflatedMax}
	if err := r.registration(b, version); err != nil {
		return err
	}
	return r.drain()
}

// blockReader reads the blocks of a compressed registration. Memory grows with the bytes that come, not with the
// lengths they declare.
type blockReader struct {
	in   *bufio.Reader
	left int // bytes that may still come
}

// errInflated says that a body would inflate to more than its cap.
var errInflated = errors.New("too many bytes after inflating")

func (r *blockReader) registration(b *RegisterBrokerBody, version int32) error {
	w := &b.TopicConfigSerializeWrapper
	if err := r.json("data version", &w.DataVersion); err != nil {
		return err
	}
	count, err := r.int32()
	if err != nil {
		return fmt.Errorf("topic count: %w", err)
	}
	w.TopicConfigTable = map[string]TopicConfig{}
	for range count {
		line, err := r.block()
		if err != nil {
			return fmt.Errorf("topic: %w", err)
		}
		topic, err := parseTopicLine(string(line))
		if err != nil {
			return err
		}
		w.TopicConfigTable[topic.TopicName] = topic
	}
	if err := r.json("filter servers", &b.FilterServerList); err != nil {
		return err
	}
	if version < V5_0_0 {
		return nil
	}
	return r.mappings(w)
}

// mappings reads the queue mappings. A stream that ends before them has none.
func (r *blockReader) mappings(w *TopicConfigAndMappingSerializeWrapper) error {
	count, err := r.int32()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mapping count: %w", err)
	}
	w.TopicQueueMappingInfoMap = map[string]fastjson.Raw{}
	for range count {
		text, err := r.block()
		if err != nil {
			return fmt.Errorf("mapping: %w", err)
		}
		var about struct {
			Topic string `json:"topic"`
		}
		if err := fastjson.Unmarshal(text, &about); err != nil {
			return fmt.Errorf("mapping: %w", err)
		}
		w.TopicQueueMappingInfoMap[about.Topic] = text
	}
	return nil
}

// drain reads what is left, if only to have the checksum compared.
func (r *blockReader) drain() error {
	_, err := io.CopyN(io.Discard, r.in, int64(r.left)+1)
	switch err {
	case nil:
		return errInflated
	case io.EOF:
		return nil
	default:
		return err
	}
}

func (r *blockReader) int32() (int32, error) {
	var word [4]byte
	if r.left -= len(word); r.left < 0 {
		return 0, errInflated
	}
	if _, err := io.ReadFull(r.in, word[:]); err != nil {
		return 0, err
	}
	n := int32(binary.BigEndian.Uint32(word[:]))
	if n < 0 {
		return 0, fmt.Errorf("negative count %d", n)
	}
	return n, nil
}

func (r *blockReader) block() ([]byte, error) {
	n, err := r.int32()
	if err != nil {
		return nil, err
	}
	if n > registerBlockMax {
		return nil, fmt.Errorf("block of %d bytes, at most %d allowed", n, registerBlockMax)
	}
	if r.left -= int(n); r.left < 0 {
		return nil, errInflated
	}
	var out bytes.Buffer
	if _, err := io.CopyN(&out, r.in, int64(n)); err != nil {
		return nil, fmt.Errorf("block of %d bytes: %w", n, err)
	}
	return out.Bytes(), nil
}

func (r *blockReader) json(what string, v any) error {
	text, err := r.block()
	if err == nil {
		err = fastjson.Unmarshal(text, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// parseTopicLine undoes blockWriter.topic. Attributes that cannot be read are dropped, as in Java; 4.x brokers send none.
func parseTopicLine(line string) (TopicConfig, error) {
	words := strings.Split(line, " ")
	if len(words) < 5 {
		return TopicConfig{}, fmt.Errorf("topic line %.80q has %d words, want at least 5", line, len(words))
	}
	c := TopicConfig{TopicName: words[0], TopicFilterType: words[4], Attributes: map[string]string{}}
	for i, to := range []*int32{&c.ReadQueueNums, &c.WriteQueueNums, &c.Perm} {
		n, err := strconv.ParseInt(words[i+1], 10, 32)
		if err != nil {
			return TopicConfig{}, fmt.Errorf("topic line %.80q: word %d is no int32", line, i+2)
		}
		*to = int32(n)
	}
	if c.TopicFilterType != SingleTag && c.TopicFilterType != MultiTag {
		return TopicConfig{}, fmt.Errorf("topic line %.80q: filter type %.20q", line, c.TopicFilterType)
	}
	if len(words) > 5 {
		var attributes map[string]string
		if fastjson.Unmarshal([]byte(words[5]), &attributes) == nil && attributes != nil {
			c.Attributes = attributes
		}
	}
	return c, nil
}
