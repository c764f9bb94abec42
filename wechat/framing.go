package wechat

import (
	"bytes"
	"strconv"
	"strings"
)

// framingParser finds the end of each answer on a connection, by RFC 9112 section 6. Where
// net/http could see another end than the framer (an answer without a length, of HTTP/1.0,
// with two lengths), the framer has the connection closed after the answer; where it cannot
// read on, it breaks the answer off.
type framingParser struct {
	phase     phase
	remaining int64 // of phaseBody and phaseChunk: bytes to come
	// injects: the answer's header is to say that the connection is closed after it.
	addClose bool
}

// phase is what a connection is about to give.
type phase uint8

const (
	phaseUnused      phase = iota // nothing: nothing was written yet; expect or a Write leaves it
	phasePassThrough              // whatever comes: it is not HTTP in plain text
	phaseIdle                     // nothing: the answer is complete; expect leaves it
	phaseHeader                   // a status line and a header
	phaseBody                     // left bytes of a body
	phaseChunkSize                // the line before a chunk
	phaseChunkData                // left bytes of a chunk
	phaseChunkEnd                 // the line end behind a chunk
	phaseTrailer                  // the lines behind the last chunk
	phaseUntilClose               // a body that ends with the connection
	phaseMalformed                // nothing: the answer is malformed
	phaseExcess                   // nothing: more has come than the answer has
)

// acceptsBytes tells whether bytes that come belong to an answer, or to what is passed
// through.
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

// step returns how many of the next bytes belong to the answer. It is not ok when it needs
// more bytes, or when there is nothing to take.
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

// fixedLength takes bytes of a known number.
func (f *framingParser) fixedLength(next []byte, then phase) (int, bool) {
	n := int(min(f.remaining, int64(len(next))))
	if f.remaining -= int64(n); f.remaining > 0 {
		return n, false
	}
	f.phase = then
	return n, true
}

// chunkLine takes one line of a chunked body's framing.
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

// header takes a status line and a header, as soon as they are there as a whole.
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
		return length, true // the answer is still to come
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
		f.addClose = int64(len(next)-length) > h.length // so that no request meets the surplus
	default:
		f.phase, f.addClose = phaseUntilClose, true
	}
	return length, true
}

// headerLength is the number of bytes up to and with the first empty line, -1 when it has not
// come.
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

// answerHeader is what a header says about the end of its answer.
type answerHeader struct {
	status      int
	length      int64 // -1 when not told
	chunked     bool
	unambiguous bool // HTTP/1.1, with at most one clear statement of the length
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
			h.unambiguous = false // a folded line: it may belong to a length
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t\r")
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(value), 10, 63)
			h.length, statements = int64(n), statements+1 //nolint:gosec // of 63 bits
			h.unambiguous = h.unambiguous && err == nil && statements == 1
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			h.chunked, statements = bytes.EqualFold(value, []byte("chunked")), statements+1
			h.unambiguous = h.unambiguous && h.chunked && statements == 1
		}
	}
	return h
}
