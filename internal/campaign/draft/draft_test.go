package draft_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/campaign/draft"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const app = "wx0123456789abcdef"

// TestTable: a table comes back as it was, on another connection too, in chunks that expire.
func TestTable(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		store := draft.NewStore(rdb)
		noise := make([]byte, 3<<20) // does not compress: several chunks
		source := rand.NewChaCha8([32]byte{1})
		_, _ = source.Read(noise)
		for name, table := range map[string][]byte{
			"small": []byte("openid\noA\n"), "noise": noise, "repetitive": bytes.Repeat([]byte("oA,张三\n"), 1<<20), "empty": {},
		} {
			id, err := store.Save(t.Context(), app, "spring", []byte(`{"x":1}`), table)
			if err != nil {
				t.Fatal(err)
			}
			got, err := draft.NewStore(rdb).Table(t.Context(), app, id)
			if err != nil || !bytes.Equal(got, table) {
				t.Errorf("%s: %d of %d bytes, %v", name, len(got), len(table), err)
			}
			d, err := store.Read(t.Context(), app, id)
			if err != nil || d.Batch != "spring" || string(d.Info) != `{"x":1}` || d.Run != nil || d.Sending {
				t.Errorf("%+v, %v", d, err)
			}
		}
		keys, err := rdb.Keys(t.Context(), "*").Result()
		if err != nil || len(keys) < 12 {
			t.Fatal(keys, err)
		}
		for _, key := range keys {
			if ttl, err := rdb.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 || !strings.HasPrefix(key, "wxcourier:{"+app+"}:") {
				t.Errorf("%s: %v %v", key, ttl, err)
			}
		}
	})
}

// TestGone: a draft that is gone, or whose table is, is not found.
func TestGone(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		store := draft.NewStore(rdb)
		id, err := store.Save(t.Context(), app, "spring", nil, []byte("openid\n"))
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range [][2]string{{app, "x"}, {"wx00000000000000ff", id}} {
			if _, err := store.Read(t.Context(), other[0], other[1]); !errors.Is(err, draft.ErrNotFound) {
				t.Errorf("%v: %v", other, err)
			}
			if _, err := store.Table(t.Context(), other[0], other[1]); !errors.Is(err, draft.ErrNotFound) {
				t.Errorf("%v: %v", other, err)
			}
			if err := store.SetInfo(t.Context(), other[0], other[1], "b", nil); !errors.Is(err, draft.ErrNotFound) {
				t.Errorf("%v: %v", other, err)
			}
			if _, err := store.Lock(t.Context(), draft.Draft{App: other[0], ID: other[1], Batch: "b"}, []byte("{}")); !errors.Is(err, draft.ErrNotFound) {
				t.Errorf("%v: %v", other, err)
			}
		}
		if err := rdb.Del(t.Context(), "wxcourier:{"+app+"}:campaign_draft:"+id+":table:0").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Table(t.Context(), app, id); !errors.Is(err, draft.ErrNotFound) {
			t.Errorf("without a chunk: %v", err)
		}
		if err := store.Delete(t.Context(), app, id); err != nil {
			t.Fatal(err)
		}
		if n, err := rdb.DBSize(t.Context()).Result(); err != nil || n != 0 {
			t.Errorf("%d keys are left, %v", n, err)
		}
	})
}

// TestLock: one process at a time sends a batch, and it notices when its lock is lost.
func TestLock(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		store := draft.NewStore(rdb)
		save := func(batch string) draft.Draft {
			id, err := store.Save(t.Context(), app, batch, nil, []byte("openid\n"))
			if err != nil {
				t.Fatal(err)
			}
			return draft.Draft{ID: id, App: app, Batch: batch}
		}
		one, again, other := save("spring"), save("spring"), save("summer")
		lock, err := store.Lock(t.Context(), one, []byte(`{"n":1}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []draft.Draft{one, again} {
			if _, err := store.Lock(t.Context(), d, []byte(`{}`)); !errors.Is(err, draft.ErrLocked) {
				t.Errorf("a second process: %v", err)
			}
		}
		if _, err := store.Lock(t.Context(), other, []byte(`{}`)); err != nil {
			t.Errorf("another batch: %v", err)
		}
		read := func(d draft.Draft, sending bool, run string) {
			t.Helper()
			got, err := store.Read(t.Context(), app, d.ID)
			if err != nil || got.Sending != sending || string(got.Run) != run {
				t.Errorf("%+v %s, %v", got, got.Run, err)
			}
		}
		read(one, true, `{"n":1}`)
		read(again, false, "")
		if err := lock.Update(t.Context(), []byte(`{"n":2}`)); err != nil {
			t.Error(err)
		}
		read(one, true, `{"n":2}`)
		lockKey := "wxcourier:{" + app + "}:campaign_lock:spring"
		if err := rdb.Del(t.Context(), lockKey).Err(); err != nil { // as when it ends
			t.Fatal(err)
		}
		read(one, false, `{"n":2}`)
		next, err := store.Lock(t.Context(), one, []byte(`{"n":3}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{lock.Update(t.Context(), []byte(`{"n":9}`)), lock.Release(t.Context(), []byte(`{"n":9}`))} {
			if !errors.Is(err, draft.ErrLost) {
				t.Errorf("by the first process: %v", err)
			}
		}
		read(one, true, `{"n":3}`)
		if err := next.Release(t.Context(), []byte(`{"n":4}`)); err != nil {
			t.Error(err)
		}
		read(one, false, `{"n":4}`)
	})
}
