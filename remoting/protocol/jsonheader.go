package protocol

import (
	"fmt"
	"strconv"

	"rmq/remoting/fastjson"
)

// appendJSONHeader writes the header as Java does: members in alphabetical order, absent ones left out.
func appendJSONHeader(dst []byte, c *Command) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(c.Code), 10)
	if c.Ext != nil {
		dst = append(dst, `,"extFields":{`...)
		for i := range c.Ext {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = fastjson.AppendString(dst, c.Ext[i].Key)
			dst = append(dst, ':')
			dst = fastjson.AppendString(dst, c.Ext[i].Value)
		}
		dst = append(dst, '}')
	}
	dst = append(dst, `,"flag":`...)
	dst = strconv.AppendInt(dst, int64(c.Flag), 10)
	dst = append(dst, `,"language":"`...)
	dst = append(dst, c.Language.String()...)
	dst = append(dst, `","opaque":`...)
	dst = strconv.AppendInt(dst, int64(c.Opaque), 10)
	if c.Remark != "" {
		dst = append(dst, `,"remark":`...)
		dst = fastjson.AppendString(dst, c.Remark)
	}
	dst = append(dst, `,"serializeTypeCurrentRPC":"JSON","version":`...)
	dst = strconv.AppendInt(dst, int64(c.Version), 10)
	return append(dst, '}')
}

// jsonHeader reads one JSON header. Strings without escapes are parts of one copy of the header's text.
type jsonHeader struct {
	scan fastjson.Scanner
}

func decodeJSONHeader(header []byte, c *Command) error {
	h := jsonHeader{scan: fastjson.NewScanner(string(header))}
	if err := h.scan.Expect('{'); err != nil {
		return err
	}
	for more := !h.scan.Take('}'); more; {
		key, err := h.key()
		if err != nil {
			return err
		}
		if err = h.member(key, c); err != nil {
			return err
		}
		if more, err = h.scan.More('}'); err != nil {
			return err
		}
	}
	return h.scan.End()
}

func (h *jsonHeader) key() (string, error) {
	key, err := h.scan.String()
	if err != nil {
		return "", err
	}
	return key, h.scan.Expect(':')
}

func (h *jsonHeader) member(key string, c *Command) (err error) {
	switch key {
	case "code":
		return h.int32(key, &c.Code)
	case "version":
		return h.int32(key, &c.Version)
	case "opaque":
		return h.int32(key, &c.Opaque)
	case "flag":
		return h.int32(key, &c.Flag)
	case "remark":
		c.Remark, _, err = h.value(key)
		return err
	case "language":
		return h.language(key, c)
	case "extFields":
		return h.ext(c)
	default:
		return h.scan.Skip(1)
	}
}

// value takes a string, number or boolean as text, or null as not there.
func (h *jsonHeader) value(key string) (text string, ok bool, err error) {
	switch h.scan.Peek() {
	case '"':
		text, err = h.scan.String()
		return text, err == nil, err
	case '{', '[':
		return "", false, h.scan.Fail("%q holds an object or array", key)
	}
	text, err = h.scan.Literal()
	if err != nil || text == "null" {
		return "", false, err
	}
	return text, true, nil
}

func (h *jsonHeader) int32(key string, to *int32) error {
	text, ok, err := h.value(key)
	if err != nil || !ok {
		return err
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return fmt.Errorf("protocol: header member %s is %.40q, want an int32", key, text)
	}
	*to = int32(n)
	return nil
}

// language takes a name in any case or an ordinal, as Java does; others become OTHER.
func (h *jsonHeader) language(key string, c *Command) error {
	text, ok, err := h.value(key)
	if err != nil || !ok {
		return err
	}
	c.Language = languageByName(text)
	if text != "" && text[0] >= '0' && text[0] <= '9' {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			c.Language = languageByOrdinal(n)
		}
	}
	return nil
}

func (h *jsonHeader) ext(c *Command) error {
	if h.scan.Peek() != '{' {
		if raw, err := h.scan.Literal(); err != nil || raw != "null" {
			return h.scan.Fail("extFields is no object")
		}
		return nil
	}
	h.scan.Take('{')
	for more := !h.scan.Take('}'); more; {
		key, err := h.key()
		if err != nil {
			return err
		}
		value, ok, err := h.value(key)
		if err != nil {
			return err
		}
		if ok {
			if len(c.Ext) == MaxExt {
				return ErrExtCount
			}
			c.Ext = append(c.Ext, Field{key, value})
		}
		if more, err = h.scan.More('}'); err != nil {
			return err
		}
	}
	return nil
}
