package main

import (
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// retries counts the failures per uuid. They live as long as the process, so a test that counts has one replica.
type retries struct {
	lock   sync.Mutex
	failed map[string]int
}

// shallFail says whether this request is one of the first `times` of its uuid, and counts it. The lock is held for
// the counting only: while one request sleeps, other uuids and its own retry go on.
func (r *retries) shallFail(uuid string, times int) bool {
	r.lock.Lock()
	defer r.lock.Unlock()
	if r.failed[uuid] >= times {
		return false
	}
	r.failed[uuid]++
	return true
}

var errRetryQuery = errors.New("/retry/ wants ?uuid=<text>&succeedAfter=<number>, and responseCode, if given, a status")

// failSomeTimes fails the first `succeedAfter` requests of a `uuid` after `delayRetry`, with `responseCode` or, without
// it, by a reset of the connection; later ones are echoed.
func (e *echo) failSomeTimes(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	uuid, code := query.Get("uuid"), 0
	times, err := strconv.Atoi(query.Get("succeedAfter"))
	if text := query.Get("responseCode"); text != "" && err == nil {
		code, err = strconv.Atoi(text)
		if code < 100 || code > 999 { // WriteHeader would panic
			err = errRetryQuery
		}
	}
	if uuid == "" || err != nil {
		http.Error(w, errRetryQuery.Error(), http.StatusBadRequest)
		return
	}
	if !e.retries.shallFail(uuid, times) {
		e.echo(w, r)
		return
	}
	if err := sleep(r, "delayRetry"); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	logf("Failing request made to %s to client (%s)", r.RequestURI, r.RemoteAddr)
	if code == 0 {
		reset(w)
		return
	}
	w.WriteHeader(code)
}

// reset ends the connection with RST, or the stream where it is HTTP/2.
func reset(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler) // RST_STREAM, without a trace in the log
	}
	connection, _, err := hijacker.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if encrypted, ok := connection.(interface{ NetConn() net.Conn }); ok {
		connection = encrypted.NetConn() // closing above it would say goodbye first
	}
	if plain, ok := connection.(*net.TCPConn); ok {
		plain.SetLinger(0)
	}
	connection.Close()
}
