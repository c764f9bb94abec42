package table

import "strings"

// The problems of cells.
const (
	lostDigits   = "a spreadsheet has replaced the last digits of this number: format the column as text, and paste the numbers again"
	formulaError = "an error of a spreadsheet's formula"
	tooNarrow    = "the column of the spreadsheet was too narrow to show the value: make it wider, and save again"
	noDate       = "not a date of a spreadsheet: format the cell as text"
	noNumber     = "not a number of a spreadsheet: write the cell again"
)

// trimmed are the characters that are removed at the ends of a cell, besides white space: those
// without a width, which web pages and spreadsheets leave behind.
const trimmed = "\ufeff\u200b\u200e\u200f\u202a\u202c\u2060"

// clean returns the text of a cell without white space at its ends.
func clean(text string) string {
	if len(text) > 0 && text[0] > ' ' && text[0] < 0x7f && text[len(text)-1] > ' ' && text[len(text)-1] < 0x7f {
		return text
	}
	for {
		shorter := strings.Trim(strings.TrimSpace(text), trimmed)
		if len(shorter) == len(text) {
			return text
		}
		text = shorter
	}
}

// problem says why a text cannot be what a person wrote; "": it can be.
func problem(text string) string {
	if len(text) < 2 {
		return ""
	}
	switch c := text[0]; {
	case c == '#':
		switch text {
		case "#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!", "#CALC!":
			return formulaError
		}
		if strings.Trim(text, "#") == "" {
			return tooNarrow
		}
	case c >= '0' && c <= '9', c == '-', c == '+', c == '.':
		if scientific(text) {
			return lostDigits
		}
	}
	return ""
}

// scientific reports whether a text is a number in the form in which spreadsheets show long
// numbers: 4.2E+17. A code such as 12E5, without a sign, is none.
func scientific(text string) bool {
	at := strings.IndexAny(text, "eE")
	if at < 1 || at+2 >= len(text) || text[at+1] != '+' && text[at+1] != '-' {
		return false
	}
	mantissa, exponent := strings.TrimLeft(text[:at], "+-"), text[at+2:]
	whole, decimals, _ := strings.Cut(mantissa, ".")
	return (whole != "" || decimals != "") && digits(whole) && digits(decimals) && digits(exponent)
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// finish cleans the cells of a row, removes the empty ones at its end, and marks the problems. It
// reports whether the row has any cell left.
func (r *Row) finish() bool {
	for i, text := range r.Cells {
		text = clean(text)
		r.Cells[i] = text
		if p := problem(text); p != "" {
			r.mark(i, p)
		}
	}
	n := len(r.Cells)
	for n > 0 && r.Cells[n-1] == "" && r.Problems[n-1] == "" {
		n--
	}
	r.Cells = r.Cells[:n]
	return n > 0
}

func (r *Row) mark(i int, problem string) {
	if r.Problems == nil {
		r.Problems = make(map[int]string, 1)
	}
	r.Problems[i] = problem
}
