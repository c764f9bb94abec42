package tasks

import (
	"context"
	"slices"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// IsReceipt reports whether r is a receipt alone, as the streams of results have it: it supplements
// the outcome of its task, which the stream has before it, and is not another outcome. It has the
// names of the task, its outcome, msgid and generation, and the receipt; all else is zero. A lookup
// such as [Client.Result] returns the outcome together with its receipt.
func (r Result) IsReceipt() bool { return r.Receipt != "" && r.FinishedAt.IsZero() }

// ExpectsReceipt reports whether WeChat pushes a receipt for a message with this result, to an app
// with a callback.
func (r Result) ExpectsReceipt() bool {
	return r.Outcome == OutcomeAccepted && r.MsgID != "" && TypeHasReceipts(r.Type)
}

// TypeHasReceipts reports whether WeChat pushes receipts for messages of a type.
func TypeHasReceipts(typ string) bool {
	spec, ok := Lookup(typ)
	return ok && spec.Receipts
}

// TypesWithReceipts returns the task types for whose messages WeChat pushes receipts, in the order of
// the catalog.
func TypesWithReceipts() []string {
	return slices.DeleteFunc(Types(), func(typ string) bool { return !TypeHasReceipts(typ) })
}

// WithReceipt returns a result with the receipt that the task's record has beside it; the zero Receipt
// changes nothing. It is for this module: other programs call [Client.Result] or
// [Inspector.AddReceipts].
func WithReceipt(r Result, receipt ledger.Receipt) Result {
	if receipt.Kind != "" {
		r.Receipt, r.ReceiptStatus, r.ReceiptAt = DeliveryReceipt(receipt.Kind), receipt.Status, receipt.At
	}
	return r
}

// decodeRecord returns the result of an ended task, with its receipt.
func decodeRecord(record ledger.Record) (Result, error) {
	r, err := decodeResult(record.Result)
	return WithReceipt(r, record.Receipt), err
}

// AddReceipts adds to results the receipts that came since they were recorded: the stream of results
// has those as entries of their own ([Result.IsReceipt]). It takes one round trip for each 500
// accepted messages.
func (i *Inspector) AddReceipts(ctx context.Context, results []Result) error {
	var (
		places      []int
		refs        []ledger.Ref
		generations []int
	)
	for n, r := range results {
		if r.ExpectsReceipt() && r.Receipt == "" {
			places, refs = append(places, n), append(refs, ledger.Ref{App: r.App, ID: r.ID})
			generations = append(generations, r.Generation)
		}
	}
	if len(refs) == 0 {
		return nil
	}
	receipts, err := i.ledger.Receipts(ctx, refs, generations)
	if err != nil {
		return err
	}
	for n, receipt := range receipts {
		results[places[n]] = WithReceipt(results[places[n]], receipt)
	}
	return nil
}
