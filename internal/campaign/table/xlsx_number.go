package table

import (
	"archive/zip"
	"math"
	"strconv"
	"strings"
	"time"
)

// dateParts says what a number format shows of a date.
type dateParts uint8

const (
	showsDate dateParts = 1 << iota
	showsTime
)

// builtinDates are the number formats for dates and times that have no format code in the file, in
// the language of the workbook (ECMA-376, part 1, 18.8.30).
func builtinDates(id int) dateParts {
	switch {
	case id >= 14 && id <= 17, id >= 27 && id <= 31, id == 36, id >= 50 && id <= 54, id == 57, id == 58:
		return showsDate
	case id >= 18 && id <= 21, id >= 32 && id <= 35, id >= 45 && id <= 47, id == 55, id == 56:
		return showsTime
	case id == 22:
		return showsDate | showsTime
	}
	return 0
}

// datesOf returns what a format code shows of a date, such as yyyy"年"m"月"d"日" or h:mm.
func datesOf(code string) (parts dateParts) {
	code, _, _ = strings.Cut(strings.ToLower(code), ";") // the others are for negative numbers and texts
	quoted, month := false, false
	for i := 0; i < len(code); i++ {
		c := code[i]
		switch {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '\\' || c == '_' || c == '*':
			i++ // the next character is shown as it is
		case c == '[':
			end := strings.IndexByte(code[i:], ']')
			if end < 0 {
				return parts
			}
			if inside := code[i+1 : i+end]; inside != "" && strings.Trim(inside, "hms") == "" {
				parts |= showsTime // [h]: the hours of a duration
			}
			i += end
		case c == 'y' || c == 'd':
			parts |= showsDate
		case c == 'h' || c == 's':
			parts |= showsTime
		case c == 'm':
			month = true // or minutes, beside hours
		case c == 'g' && strings.HasPrefix(code[i:], "general"):
			return 0
		}
	}
	if month && parts == 0 {
		parts = showsDate
	}
	return parts
}

// readStyles finds out which styles of cells show numbers as dates.
func (b *workbook) readStyles(f *zip.File) error {
	codes, inCells := make(map[int]dateParts), false
	return b.elements(f, func(name string, e token) error {
		switch name {
		case "numFmt":
			if id, err := strconv.Atoi(e.attribute("numFmtId")); err == nil && len(codes) < maxStyles {
				codes[id] = datesOf(e.attribute("formatCode"))
			}
		case "cellXfs":
			inCells = true
		case "cellStyles", "dxfs", "cellStyleXfs":
			inCells = false
		case "xf":
			if !inCells {
				return nil
			}
			if len(b.dates) >= maxStyles {
				return errBomb
			}
			id, _ := strconv.Atoi(e.attribute("numFmtId"))
			parts, own := codes[id]
			if !own {
				parts = builtinDates(id)
			}
			b.dates = append(b.dates, parts)
		}
		return nil
	})
}

// number returns the text of a number: without the format of its cell, as it was typed. A
// spreadsheet keeps 15 digits of a number, and may write 19.9 as 19.899999999999999.
func number(text string) (string, string) {
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || math.IsNaN(n) || math.IsInf(n, 0):
		return "", noNumber
	case math.Abs(n) >= 1e15:
		return "", lostDigits
	}
	n, _ = strconv.ParseFloat(strconv.FormatFloat(n, 'g', 15, 64), 64)
	return strconv.FormatFloat(n, 'f', -1, 64), ""
}

// date returns the text of a number that is shown as a date: 2026-12-01, 2026-12-01 08:00 or 08:00,
// with seconds unless they are 0.
func (b *workbook) date(text string, parts dateParts) (string, string) {
	const last = 2_958_465 // 9999-12-31
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0 && n <= last) {
		return "", noDate
	}
	base := time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)
	switch {
	case b.date04:
		base = time.Date(1904, 1, 1, 0, 0, 0, 0, time.UTC)
	case n < 60:
		base = base.AddDate(0, 0, 1) // these workbooks have a 29 February 1900, which was none
	}
	days, fraction := math.Modf(n)
	at := base.AddDate(0, 0, int(days)).Add(time.Duration(math.Round(fraction*24*60*60)) * time.Second)
	clock := "15:04"
	if at.Second() != 0 {
		clock = "15:04:05"
	}
	switch parts {
	case showsDate:
		return at.Format(time.DateOnly), ""
	case showsTime:
		return at.Format(clock), ""
	}
	return at.Format(time.DateOnly + " " + clock), ""
}
