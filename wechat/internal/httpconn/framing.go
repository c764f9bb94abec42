package httpconn

import (
	"bytes"
	"strconv"
	"strings"
)

// framingParser finds the end of each answer on a connection, by RFC 9112 section 6. Where
// net/http could find a different end (no length, two lengths, HTTP/1.0), the parser makes
// net/http close the connection after the answer. It stops at malformed framing.
type framingParser struct {
	phase     phase
	remaining int64 // in phaseBody and phaseChunkData: bytes still to come
	// addClose requests that "Connection: close" be added to the answer's header.
	addClose bool
}

// phase is the part of an answer that a connection delivers next.
type phase uint8

const (
	phaseUnused      phase = iota // nothing: nothing was written yet; ends with expectAnswer or Write
	phasePassThrough              // anything: the connection does not carry plain-text HTTP
	phaseIdle                     // nothing: the answer is complete; ends with expectAnswer
	phaseHeader                   // a status line and a header
	phaseBody                     // the remaining bytes of a body
	phaseChunkSize                // the size line of a chunk
	phaseChunkData                // the remaining bytes of a chunk
	phaseChunkEnd                 // the line end after a chunk
	phaseTrailer                  // the lines after the last chunk
	phaseUntilClose               // a body that ends with the connection
	phaseMalformed                // nothing: the answer is malformed
	phaseExcess                   // nothing: bytes followed the end of the answer
)

// acceptsBytes reports whether bytes received in this phase belong to an answer or are
// passed through.
func (p phase) acceptsBytes() bool {
	switch p {
	case phaseUnused, phaseIdle, phaseMalformed, phaseExcess:
		return false
	case phasePassThrough, phaseHeader, phaseBody, phaseChunkSize, phaseChunkData, phaseChunkEnd, phaseTrailer, phaseUntilClose:
	}
	return true
}

func (f *framingParser) expectAnswer() {
	if f.phase == phaseUnused || f.phase == phaseIdle {
		f.phase = phaseHeader
	}
}

// step returns how many of the next bytes belong to the answer. ok is false when the parser
// needs more bytes or accepts none.
func (f *framingParser) step(next []byte) (n int, ok bool) {
	if len(next) == 0 {
		return 0, false
	}
	switch f.phase {
	case phasePassThrough, phaseUntilClose:
		return len(next), false
	case phaseHeader:
		return f.header(next)
	case phaseBody:
		return f.fixedLength(next, phaseIdle)
	case phaseChunkData:
		return f.fixedLength(next, phaseChunkEnd)
	case phaseChunkSize, phaseChunkEnd, phaseTrailer:
		return f.chunkLine(next)
	case phaseUnused, phaseIdle:
		f.phase = phaseExcess
	case phaseMalformed, phaseExcess:
	}
	return 0, false
}

// fixedLength consumes up to f.remaining bytes and then enters the phase then.
func (f *framingParser) fixedLength(next []byte, then phase) (int, bool) {
	n := int(min(f.remaining, int64(len(next))))
	if f.remaining -= int64(n); f.remaining > 0 {
		return n, false
	}
	f.phase = then
	return n, true
}

// chunkLine consumes one line of a chunked body's framing.
func (f *framingParser) chunkLine(next []byte) (int, bool) {
	end := bytes.IndexByte(next, '\n')
	if end < 0 {
		if len(next) > maxHeaderBytes {
			f.phase = phaseMalformed
		}
		return 0, false
	}
	text := strings.TrimRight(string(next[:end]), " \t\r")
	switch f.phase {
	case phaseChunkEnd:
		f.phase = phaseChunkSize
	case phaseTrailer:
		if text == "" {
			f.phase = phaseIdle
		}
	default:
		size, _, _ := strings.Cut(text, ";")
		left, err := strconv.ParseInt(strings.TrimRight(size, " \t"), 16, 64)
		switch {
		case err != nil || left < 0:
			f.phase = phaseMalformed
			return 0, false
		case left == 0:
			f.phase = phaseTrailer
		default:
			f.phase, f.remaining = phaseChunkData, left
		}
	}
	return end + 1, true
}

// header consumes a status line and a header once they are complete.
func (f *framingParser) header(next []byte) (int, bool) {
	length := headerLength(next)
	if length < 0 {
		if len(next) > maxHeaderBytes {
			f.phase = phaseMalformed
		}
		return 0, false
	}
	h := parseHeader(next[:length])
	switch {
	case h.status >= 100 && h.status <= 199 && h.status != 101:
		return length, true // informational: the final answer follows
	case !h.unambiguous:
		f.phase, f.addClose = phaseUntilClose, true
	case h.status == 204 || h.status == 304:
		f.phase = phaseIdle
	case h.chunked:
		f.phase = phaseChunkSize
	case h.length == 0:
		f.phase = phaseIdle
	case h.length > 0:
		f.phase, f.remaining = phaseBody, h.length
		f.addClose = int64(len(next)-length) > h.length // no later request may read the excess
	default:
		f.phase, f.addClose = phaseUntilClose, true
	}
	return length, true
}

// headerLength returns the number of bytes up to and including the first empty line, -1 if
// there is none yet.
func headerLength(b []byte) int {
	for at := 0; ; {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 0 {
			return -1
		}
		line := bytes.TrimSuffix(b[at:at+end], []byte("\r"))
		if at += end + 1; len(line) == 0 {
			return at
		}
	}
}

// answerHeader holds the fields that determine the length of an answer.
type answerHeader struct {
	status      int
	length      int64 // -1 if absent
	chunked     bool
	unambiguous bool // HTTP/1.1 with at most one valid length
}

func parseHeader(block []byte) answerHeader {
	h := answerHeader{length: -1}
	line, rest, _ := bytes.Cut(block, []byte("\n"))
	protocol, code, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	code, _, _ = bytes.Cut(bytes.TrimSpace(code), []byte(" "))
	h.status, _ = strconv.Atoi(string(code))
	h.unambiguous = string(protocol) == "HTTP/1.1" && h.status >= 200
	for statements := 0; len(rest) > 0; {
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			h.unambiguous = false // a folded line, possibly of a length
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t\r")
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(value), 10, 63)
			h.length, statements = int64(n), statements+1
			h.unambiguous = h.unambiguous && err == nil && statements == 1
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			h.chunked, statements = bytes.EqualFold(value, []byte("chunked")), statements+1
			h.unambiguous = h.unambiguous && h.chunked && statements == 1
		}
	}
	return h
}
