package rotate

import (
	"slices"
	"testing"
)

func TestNext(t *testing.T) {
	pos, all := 0, []int{1, 2, 3, 4, 5}
	for _, tt := range []struct {
		all  []int
		n    int
		want []int
	}{
		{all, 2, []int{1, 2}},
		{all, 2, []int{3, 4}},
		{all, 2, []int{5, 1}},
		{all, 5, all},
		{all, 9, all},
		{all[:3], 2, []int{2, 3}},
		{nil, 2, nil},
		{all, 2, []int{1, 2}},
	} {
		if got := Next(tt.all, tt.n, &pos); !slices.Equal(got, tt.want) {
			t.Errorf("%d of %v: %v, want %v", tt.n, tt.all, got, tt.want)
		}
	}
}
