package table_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/campaign/tabletest"
)

// read opens a table, and returns its rows as texts: "line|cell|cell".
func read(content []byte, name string) (*table.Table, []string, error) {
	t, err := table.Open(bytes.NewReader(content), int64(len(content)), name)
	if err != nil {
		return nil, nil, err
	}
	var rows []string
	for row, err := range t.Rows() {
		if err != nil {
			return t, rows, err
		}
		text := fmt.Sprintf("%d|%s", row.Line, strings.Join(row.Cells, "|"))
		for i := range t.Columns {
			if p := row.Problems[i]; p != "" {
				text += fmt.Sprintf(" !%d %s", i, p)
			}
		}
		if row.Extra != "" {
			text += " +" + row.Extra
		}
		if row.Hidden {
			text += " hidden"
		}
		rows = append(rows, text)
	}
	return t, rows, nil
}

// inUTF16 encodes a text in UTF-16, with a BOM.
func inUTF16(text string, order binary.AppendByteOrder) []byte {
	out := order.AppendUint16(nil, 0xfeff)
	for _, unit := range utf16.Encode([]rune(text)) {
		out = order.AppendUint16(out, unit)
	}
	return out
}

// inGBK are texts in GBK, as Excel saves CSV in China: "openid,姓名\r\no1,王小明\r\no2,㐀€𠀀\r\n". The
// last row has codes of four bytes, and 0x80.
const inGBK = "openid,\xd0\xd5\xc3\xfb\r\no1,\xcd\xf5\xd0\xa1\xc3\xf7\r\no2,\x81\x39\xee\x39\x80\x95\x32\x82\x36\r\n"

func TestTexts(t *testing.T) {
	const people = "openid,姓名\r\no1,王小明\r\n\r\n o2\t,\"a,\"\"b\"\"\nc\"\r\n,\r\no3\r\n"
	want := []string{"2|o1|王小明", "4|o2|a,\"b\"\nc", "7|o3|"}
	semicolons, tabs := strings.NewReplacer(",\"a,", ";\"a,", ",", ";").Replace(people), strings.NewReplacer(",\"a,", "\t\"a,", ",", "\t").Replace(people)
	tabs = strings.Replace(tabs, " o2\t\t", " o2\t", 1)
	for _, tt := range []struct {
		name, encoding string
		content        []byte
		format         table.Format
		want           []string
	}{
		{"UTF-8", "UTF-8", []byte(people), table.CSV, want},
		{"without a line break at its end", "UTF-8", []byte(strings.TrimSpace(people)), table.CSV, want},
		{"with a BOM", "UTF-8 with BOM", []byte("\ufeff" + people), table.CSV, want},
		{"UTF-16LE", "UTF-16LE", inUTF16(people, binary.LittleEndian), table.CSV, want},
		{"UTF-16BE", "UTF-16BE", inUTF16(people, binary.BigEndian), table.CSV, want},
		{"beyond U+FFFF", "UTF-16LE", inUTF16("openid,姓名\no1,𠀀", binary.LittleEndian), table.CSV, []string{"2|o1|𠀀"}},
		{"semicolons", "UTF-8", []byte(semicolons), table.CSV, want},
		{"tabs", "UTF-8", []byte(tabs), table.TSV, want},
		{"CR alone", "UTF-8", []byte("openid,姓名\ro1,王小明\ro2,李"), table.CSV, []string{"2|o1|王小明", "3|o2|李"}},
		{"GBK", "GB18030", []byte(inGBK), table.CSV, []string{"2|o1|王小明", "3|o2|㐀€𠀀"}},
		{"blank rows first", "UTF-8", []byte("\n,,\nopenid,姓名,,\no1,a\n"), table.CSV, []string{"4|o1|a"}},
		{"spaces that are not seen", "UTF-8", []byte("openid,姓名\n\u3000o1\u00a0,\u200ba b\u200b\n"), table.CSV, []string{"2|o1|a b"}},
		{"a cell beyond the header", "UTF-8", []byte("openid,姓名\no1,a,,b\no2,b,,\n"), table.CSV, []string{"2|o1|a +D", "3|o2|b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, rows, err := read(tt.content, "people.csv")
			if err != nil {
				t.Fatal(err)
			}
			if got.Encoding != tt.encoding || got.Format != tt.format || got.Mismatch != "" {
				t.Errorf("%s in %s, mismatch %q; want %s in %s", got.Format, got.Encoding, got.Mismatch, tt.format, tt.encoding)
			}
			if !slices.Equal(got.Columns, []string{"openid", "姓名"}) || !slices.Equal(rows, tt.want) {
				t.Errorf("columns %q, rows\n%q, want\n%q", got.Columns, rows, tt.want)
			}
			if _, again, err := read(tt.content, "people.csv"); err != nil || !slices.Equal(again, rows) {
				t.Errorf("a second reading: %q, %v", again, err)
			}
		})
	}
}

// The decoder agrees with Python's on every code, as far as Python is installed; on the first and
// the last codes of each kind in any case.
func TestGB18030(t *testing.T) {
	for text, want := range map[string]string{
		"\x81\x40": "丂", "\xf7\xfe": "齄", "\x81\x30\x81\x30": "\u0080", "\x84\x31\xa4\x39": "\uffff",
		"\x90\x30\x81\x30": "\U00010000", "\xe3\x32\x9a\x35": "\U0010ffff", "\xa2\xe3": "€",
	} {
		_, rows, err := read([]byte("c\n\xd0\xd5"+text+"\xd0\xd5\n"), "")
		if err != nil || len(rows) != 1 || rows[0] != "2|姓"+want+"姓" {
			t.Errorf("%x: %q, %v, want %q", text, rows, err, want)
		}
	}
	for _, invalid := range []string{"\xff\xff", "\x81", "\x81\x7f", "\x81\x30\x81", "\x84\x31\xa5\x30", "\xe3\x32\x9a\x36"} {
		if got, rows, err := read([]byte("c\n\xd0\xd5"+invalid), ""); err == nil {
			t.Errorf("%x was read as %s: %q", invalid, got.Encoding, rows)
		}
	}
	if testing.Short() {
		return
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	script := "import sys\nfor p in range(0x20, 0x110000, 101):\n  if not 0xd800 <= p <= 0xdfff and p not in (0x22, 0xfffd): sys.stdout.buffer.write(b'x' + chr(p).encode('gb18030') + b'x\\n')"
	encoded, err := exec.CommandContext(t.Context(), python, "-c", script).Output() //nolint:gosec // the test's own script
	if err != nil {
		t.Fatal(err)
	}
	_, rows, err := read(append([]byte("c\n"), encoded...), "")
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	for p := rune(0x20); p < 0x110000; p += 101 {
		if p >= 0xd800 && p <= 0xdfff || p == '"' || p == 0xfffd {
			continue
		}
		if want := "x" + string(p) + "x"; !strings.HasSuffix(rows[next], "|"+want) {
			t.Fatalf("U+%04X was read as %q", p, rows[next])
		}
		next++
	}
	if next != len(rows) {
		t.Errorf("%d rows of %d", next, len(rows))
	}
}

func TestXLSX(t *testing.T) {
	rows := `<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="inlineStr"><is><t>日期</t></is></c><c r="D1" s="1"/></row>` +
		`<row r="3"><c r="A3" t="str"><f>CONCAT(1)</f><v>o&lt;1&#x4e2d;</v></c><c r="B3"><v>19.899999999999999</v></c><c r="C3" s="1"><v>46357</v></c></row>` +
		`<row r="4" hidden="1"><c r="A4"><v>123456789012345</v></c><c r="B4" t="b"><v>1</v></c><c r="C4" s="2"><v>46357.333333333336</v></c></row>` +
		`<row r="5"><c r="A5"><v>4.2000000000000003E+17</v></c><c r="B5" t="e"><v>#N/A</v></c><c r="C5" s="3"><v>0.33333333333333331</v></c></row>` +
		`<row><c><v>1E-3</v></c><c/><c s="4"><v>59</v></c></row>` +
		`<row r="7"><c r="A7" t="s"><v>9</v></c><c r="B7"><v>x</v></c><c r="C7" s="1"><v>-1</v></c></row>` +
		`<row r="8"><c r="A8" t="inlineStr"><is><t>4.2E+17</t></is></c><c r="B8" s="5"><v>5</v></c><c r="F8" t="str"><v>x</v></c></row>` +
		`<row r="9"><c r="B9" s="1"/></row>`
	got, lines, err := read(tabletest.Zip(t, tabletest.Parts(rows)), "people.xlsx")
	if err != nil {
		t.Fatal(err)
	}
	if got.Format != table.XLSX || got.Sheet != "名单" || got.Sheets != 1 || !slices.Equal(got.Columns, []string{"openid", "姓名", "日期"}) {
		t.Errorf("%+v", got)
	}
	const lost = "a spreadsheet has replaced the last digits of this number: format the column as text, and paste the numbers again"
	want := []string{
		"3|o<1中|19.9|2026-12-01",
		"4|123456789012345|TRUE|2026-12-01 08:00 hidden",
		"5||08:00|", // see below
		"6|0.001||1900-02-28",
		"7|||",
		"8|4.2E+17|5|",
	}
	want[2] = "5|||08:00 !0 " + lost + " !1 an error of a spreadsheet's formula"
	want[4] = "7||| !0 the workbook is damaged: this cell has no text !1 not a number of a spreadsheet: write the cell again !2 not a date of a spreadsheet: format the cell as text"
	want[5] = "8|4.2E+17|5| !0 " + lost + " +F"
	if !slices.Equal(lines, want) {
		t.Errorf("rows\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// A workbook whose first sheet is hidden, that counts from 1904, with prefixes before its names and
// in another order than usual.
func TestUnusualXLSX(t *testing.T) {
	parts := tabletest.Parts("")
	parts["xl/workbook.xml"] = `<x:workbook xmlns:x="m" xmlns:r="r"><x:workbookPr date1904="1"/><x:sheets><x:sheet r:id="rId9" name="alt" state="hidden"/><x:sheet r:id="rId1" name="a"/><x:sheet name="b" r:id="rId7"/></x:sheets></x:workbook>`
	parts["xl/worksheets/sheet1.xml"] = `<x:worksheet><x:sheetData><x:row><x:c t="inlineStr"><x:is><x:t>a</x:t></x:is></x:c></x:row><x:row><x:c s="1"><x:v>44895</x:v></x:c></x:row><!-- c --><x:row><x:c t="str"><x:v><![CDATA[<b>&]]></x:v></x:c></x:row></x:sheetData></x:worksheet>`
	got, lines, err := read(tabletest.Zip(t, parts), "people.csv")
	if err != nil {
		t.Fatal(err)
	}
	if got.Sheet != "a" || got.Sheets != 2 || got.Mismatch != ".csv" || !slices.Equal(lines, []string{"2|2026-12-01", "3|<b>&"}) {
		t.Errorf("%+v %q", got, lines)
	}
}

// What is no table is refused with what it is and how to mend it, and never with a cell of it.
func TestRefused(t *testing.T) {
	sheet := func(name, text string) []byte {
		parts := tabletest.Parts(`<row><c t="str"><v>a</v></c></row>`)
		parts[name] = text
		return tabletest.Zip(t, parts)
	}
	without := func(names ...string) []byte {
		parts := tabletest.Parts("")
		for _, name := range names {
			delete(parts, name)
		}
		return tabletest.Zip(t, parts)
	}
	good := tabletest.XLSX(t, [][]string{{"a"}, {"secret"}})
	for _, tt := range []struct {
		name    string
		content []byte
		want    []string
	}{
		{"nothing", nil, []string{"the file is empty"}},
		{"white space", []byte("\n \n"), []string{"the file is empty"}},
		{"delimiters alone", []byte(strings.Repeat(",,,\n", 300)), []string{"the table is empty"}},
		{"two columns of a name", []byte("openid,姓名,openid\n"), []string{"line 1", "columns A and C", `"openid"`, "rename"}},
		{"a column without a name", []byte("\nopenid,,姓名\n"), []string{"line 2", "column B", "empty"}},
		{"no header", []byte("openid," + strings.Repeat("长", 101) + "\n"), []string{"column B", "is the first row the header?"}},
		{"many columns", []byte(strings.Repeat("a,", 600) + "b\n"), []string{"601 columns", "500"}},
		{"a quote that does not end", []byte("a,b\n1,2\nx,\"secret\n"), []string{"line 3", `"`}},
		{"a quote inside", []byte("a,b\nx,se\"cret\n"), []string{"line 2", `"…""…"`}},
		{"a row of very many cells", []byte("a,b\n" + strings.Repeat(",", 1_300_000) + "secret\n"), []string{"more than 1 MB"}},
		{"cells of very many lines", []byte("a,b\n" + strings.Repeat("\"\n\",", 350_000) + "secret\n"), []string{"more than 1 MB"}},
		{"a PNG", []byte("\x89PNG\r\n\x1a\n"), []string{"an image", ".xlsx"}},
		{"an old workbook", []byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1secret"), []string{".xls", "password", "save it as .xlsx"}},
		{"a page", []byte("\ufeff\n<html><table><tr><td>secret"), []string{"HTML", ".xlsx"}},
		{"JSON Lines", []byte(`{"type":"send:subscribe"}`), []string{"JSON", "wxcourier enqueue"}},
		{"bytes", []byte("a,b\n\x00\x01\x02"), []string{"bytes that no text has"}},
		{"an encoding of another country", []byte("a,b\n\x93\x93\xff\xfa\n"), []string{"neither UTF-8 nor GB18030", "CSV UTF-8"}},
		{"half a UTF-16", []byte("\xff\xfea\x00\x00\xd8"), []string{"UTF-16LE"}},
		{"a damaged archive", []byte("PK\x03\x04secret"), []string{"damaged"}},
		{"an archive cut off", good[:len(good)/2], []string{"damaged"}},
		{"another archive", tabletest.Zip(t, map[string]string{"a.csv": "a,b"}), []string{"an archive without a workbook"}},
		{"a document", tabletest.Zip(t, map[string]string{"word/document.xml": "a"}), []string{"Word"}},
		{"OpenDocument", tabletest.Zip(t, map[string]string{"content.xml": "a"}), []string{"OpenDocument"}},
		{"a binary workbook", tabletest.Zip(t, map[string]string{"xl/workbook.bin": "a"}), []string{".xlsb"}},
		{"a workbook without relations", without("xl/_rels/workbook.xml.rels"), []string{"damaged"}},
		{"a workbook without a sheet", without("xl/worksheets/sheet1.xml"), []string{"damaged"}},
		{"hidden sheets alone", sheet("xl/workbook.xml", `<workbook><sheets><sheet name="a" state="veryHidden"/></sheets></workbook>`), []string{"no visible sheet"}},
		{"a sheet that is no XML", sheet("xl/worksheets/sheet1.xml", "<worksheet><sheetData><row><c <"), []string{"damaged"}},
		{"a sheet that is cut off", sheet("xl/worksheets/sheet1.xml", "<worksheet><sheetData><row>"), []string{"damaged"}},
		{"an entity of its own", sheet("xl/worksheets/sheet1.xml", `<!DOCTYPE a [<!ENTITY e "x">]><worksheet><sheetData><row><c t="str"><v>&e;</v></c></row></sheetData></worksheet>`), []string{"damaged"}},
		{"an empty sheet", without("xl/sharedStrings.xml"), []string{"the table is empty"}},
		{"a bomb", sheet("xl/worksheets/sheet1.xml", "<worksheet><sheetData>"+strings.Repeat("<row></row>", 1<<18)), []string{"far larger than it looks"}},
		{"a text without an end", sheet("xl/sharedStrings.xml", "<sst><si><t>"+strings.Repeat("a", 2<<20)), []string{"far larger than it looks"}},
		{"a row without an end", sheet("xl/worksheets/sheet1.xml", `<worksheet><sheetData><row><c r="ZZZZZ1" t="str"><v>1</v></c></row>`), []string{"far larger than it looks"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := read(tt.content, "people.csv")
			var ours *table.Error
			if !errors.As(err, &ours) {
				t.Fatalf("%T %v", err, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, which does not contain %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("%v has a cell of the table", err)
			}
		})
	}
}

// A file with very many entries is refused before they are in memory.
func TestManyEntries(t *testing.T) {
	parts := tabletest.Parts("")
	for i := range 3000 {
		parts[fmt.Sprintf("xl/media/%d.png", i)] = ""
	}
	if _, _, err := read(tabletest.Zip(t, parts), ""); err == nil || !strings.Contains(err.Error(), "far larger") {
		t.Error(err)
	}
	entry := "PK\x01\x02" + strings.Repeat("\x00", 24) + "\x01\x00" + strings.Repeat("\x00", 16) + "a"
	directory := strings.Repeat(entry, 100_000)
	end := binary.LittleEndian.AppendUint32([]byte("PK\x05\x06\x00\x00\x00\x00\xa0\x86\xa0\x86"), uint32(len(directory))) //nolint:gosec // 5 MB
	content := append([]byte("PK\x03\x04"+directory), append(binary.LittleEndian.AppendUint32(end, 4), 0, 0)...)
	if _, _, err := read(content, ""); err == nil || !strings.Contains(err.Error(), "far larger") {
		t.Error(err)
	}
}

// Cells in which a spreadsheet has replaced digits are marked, and codes that only look like them are
// not.
func TestNumbersThatLostDigits(t *testing.T) {
	for text, marked := range map[string]bool{
		"4.2E+17": true, "4.20113E+17": true, "1e+05": true, "-3.1E-7": true, "#N/A": true, "#####": true,
		"12E5": false, "1E": false, "E+17": false, "2026-12-01": false, "A4.2E+17": false, "#1": false, "#": false, "1.2.3E+4": false,
	} {
		_, rows, err := read([]byte("c\n"+text+"\n"), "")
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		if got := strings.Contains(rows[0], "!"); got != marked {
			t.Errorf("%s: %q", text, rows[0])
		}
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte("openid,姓名\no1,a\n"))
	f.Add([]byte(inGBK))
	f.Add(inUTF16("a\tb\n1\t2\n", binary.BigEndian))
	f.Add(tabletest.XLSX(f, [][]string{{"openid", "姓名"}, {"o1", "a"}}))
	f.Add(tabletest.Zip(f, tabletest.Parts(`<row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2"><c r="A2" s="1"><v>46357</v></c></row>`)))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, rows, err := read(content, "people.csv")
		if err != nil {
			var ours *table.Error
			if !errors.As(err, &ours) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if len(got.Columns) == 0 || slices.Contains(got.Columns, "") {
			t.Fatalf("columns %q", got.Columns)
		}
		if _, again, err := read(content, "people.csv"); err != nil || !slices.Equal(rows, again) {
			t.Fatalf("a second reading: %v", err)
		}
	})
}

// FuzzWorkbook changes the XML inside of a workbook.
func FuzzWorkbook(f *testing.F) {
	parts := tabletest.Parts(`<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>b</t></is></c></row><row r="2"><c r="A2" s="1"><v>46357</v></c><c t="s"><v>1</v></c></row>`)
	f.Add(parts["xl/worksheets/sheet1.xml"], parts["xl/sharedStrings.xml"], parts["xl/styles.xml"], parts["xl/workbook.xml"])
	f.Add("</v></c></row><row><c></row></c>", "</t></si>", "</xf>", "<sheet/>")
	f.Add("<sheetData></c><row></row></row><c><v>1</v></c></sheetData>", "<si>", "<cellXfs><xf/>", parts["xl/workbook.xml"])
	f.Fuzz(func(t *testing.T, sheet, shared, styles, book string) {
		changed := tabletest.Parts("")
		for name, text := range map[string]string{"worksheets/sheet1": sheet, "sharedStrings": shared, "styles": styles, "workbook": book} {
			changed["xl/"+name+".xml"] = text
		}
		content := tabletest.Zip(t, changed)
		_, rows, err := read(content, "people.xlsx")
		var ours *table.Error
		if err != nil && !errors.As(err, &ours) {
			t.Fatalf("%T %v", err, err)
		}
		if _, again, _ := read(content, "people.xlsx"); !slices.Equal(rows, again) {
			t.Fatalf("%q, and then %q", rows, again)
		}
	})
}
