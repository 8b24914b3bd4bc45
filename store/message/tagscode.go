package message

import "unicode/utf8"

// TagsCode is the hash that consume queues keep of a tag: Java's String.hashCode over the UTF-16 units of tag,
// sign-extended. Invalid UTF-8 counts as U+FFFD, as Java's decoder has it. The hash of an empty tag is 0.
func TagsCode(tag []byte) int64 {
	var h int32
	for i := 0; i < len(tag); {
		if c := tag[i]; c < utf8.RuneSelf {
			h = 31*h + int32(c)
			i++
			continue
		}
		r, n := utf8.DecodeRune(tag[i:])
		i += n
		if r >= 0x10000 {
			r -= 0x10000
			h = 31*h + int32(0xD800+(r>>10))
			h = 31*h + int32(0xDC00+(r&0x3FF))
			continue
		}
		h = 31*h + int32(r)
	}
	return int64(h)
}
