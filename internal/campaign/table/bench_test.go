package table_test

import (
	"fmt"
	"testing"

	"github.com/wxcourier/wxcourier/internal/campaign/tabletest"
)

func BenchmarkXLSX(b *testing.B) {
	rows := [][]string{{"openid", "姓名", "优惠券", "到期"}}
	for i := range 20_000 {
		rows = append(rows, []string{fmt.Sprintf("oABCDEFGHIJKLMNOPQRST%07d", i), "王小明", fmt.Sprintf("SF%09d", i), "2026-12-01"})
	}
	content := tabletest.XLSX(b, rows)
	b.ResetTimer()
	for b.Loop() {
		if _, got, err := read(content, ""); err != nil || len(got) != 20_000 {
			b.Fatal(err)
		}
	}
}
