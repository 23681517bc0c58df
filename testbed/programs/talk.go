// SPDX-License-Identifier: Apache-2.0 OR MIT
// HTTP as programs in Go speak it, whose sockets wait in edge-triggered epoll.
//
//	talk serve ADDRESS   answers POST /SIZE by SIZE bytes, and by the digest of what was sent
//	talk ask ADDRESS SIZE...   asks for each size by a body of that size, one after the other on one connection
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func pattern(size int) []byte {
	body := make([]byte, size)
	for at := range body {
		body[at] = byte((at*7 + size) % 251)
	}
	return body
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func serve(address string) error {
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		size, wrong := strconv.Atoi(r.URL.Path[1:])
		if err != nil || wrong != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		w.Header().Set("Digest", digest(body))
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(pattern(size))
	}
	noted := func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fmt.Println("connection")
		}
	}
	server := &http.Server{Addr: address, Handler: http.HandlerFunc(handler), ConnState: noted}
	return server.ListenAndServe()
}

func ask(address string, sizes []string) error {
	client := &http.Client{Timeout: 20 * time.Second}
	right := 0
	for _, word := range sizes {
		size, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		sent := pattern(size)
		answer, err := client.Post("http://"+address+"/"+word, "application/octet-stream", bytes.NewReader(sent))
		if err != nil {
			return err
		}
		got, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		if answer.Header.Get("Digest") == digest(sent) && bytes.Equal(got, pattern(size)) {
			right++
		}
	}
	fmt.Println("right", right)
	return nil
}

func main() {
	err := fmt.Errorf("talk serve ADDRESS, or talk ask ADDRESS SIZE...")
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		err = serve(os.Args[2])
	} else if len(os.Args) > 3 && os.Args[1] == "ask" {
		err = ask(os.Args[2], os.Args[3:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
