package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/hostctl/hostctl/sync/mirror"
)

func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		a.answer(w, a.status())
	})
	mux.HandleFunc("POST "+syncPath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(a.done, cancel)() // an agent that ends has no answer
		err := a.sync(ctx, r.URL.Query().Get("machine"))
		if errors.Is(err, context.Canceled) && a.done.Err() != nil {
			panic(http.ErrAbortHandler) // whoever asks finds nobody, and starts another
		}
		a.answer(w, answerOf(err))
	})
	mux.HandleFunc("POST "+mirrorPath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(a.done, cancel)()
		query := r.URL.Query()
		told := http.NewResponseController(w)
		result, earlier, err := a.mirrorNow(ctx, query.Get("machine"), query.Get("share"), func(p mirror.Progress) {
			a.answer(w, mirrorAnswer{Progress: &p})
			_ = told.Flush() // whoever has gone has ended ctx
		})
		if errors.Is(err, context.Canceled) && a.done.Err() != nil {
			err = ErrNotMirrored // whoever asks does it without an agent
		}
		a.answer(w, mirrorAnswerOf(result, earlier, err))
	})
	mux.HandleFunc("POST "+stopPath, func(w http.ResponseWriter, r *http.Request) {
		a.stop(errStopped)
		select {
		case <-a.stopped:
		case <-r.Context().Done():
		}
		a.answer(w, struct{}{})
	})
	return mux
}

func (a *agent) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		a.log.Info("whoever asked has gone", "error", err)
	}
}
