// Trillian's log server, sequencer and in-memory storage as one process, for tests on loopback. Trillian's own
// commands do the same in two processes that meet in MySQL; its in-memory storage has no command of its own.
//
// It makes one tree for the CT log and writes its number to a file; Rekor v1 makes its own tree.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/google/trillian"
	"github.com/google/trillian/client"
	"github.com/google/trillian/extension"
	tlog "github.com/google/trillian/log"
	"github.com/google/trillian/monitoring"
	"github.com/google/trillian/quota"
	"github.com/google/trillian/server"
	"github.com/google/trillian/server/admin"
	"github.com/google/trillian/server/interceptor"
	"github.com/google/trillian/storage"
	_ "github.com/google/trillian/storage/memory"
	"github.com/google/trillian/util/clock"
	"github.com/google/trillian/util/election"
	"github.com/google/trillian/util/election2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/klog/v2"
)

func run(ctx context.Context, address, treeFile string) error {
	metrics := monitoring.InertMetricFactory{}
	provider, err := storage.NewProvider("memory", metrics)
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	registry := extension.Registry{
		AdminStorage:    provider.AdminStorage(),
		LogStorage:      provider.LogStorage(),
		ElectionFactory: election2.NoopFactory{},
		QuotaManager:    quota.Noop(),
		MetricFactory:   metrics,
	}

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	calls := interceptor.New(registry.AdminStorage, registry.QuotaManager, false, metrics)
	rpc := grpc.NewServer(grpc.ChainUnaryInterceptor(interceptor.ErrorWrapper, calls.UnaryInterceptor))
	trillian.RegisterTrillianLogServer(rpc, server.NewTrillianLogRPCServer(registry, clock.System))
	trillian.RegisterTrillianAdminServer(rpc, admin.New(registry, []trillian.TreeType{trillian.TreeType_LOG}))

	operation := tlog.NewOperationManager(tlog.OperationInfo{
		Registry:    registry,
		BatchSize:   100,
		NumWorkers:  2,
		RunInterval: 50 * time.Millisecond,
		TimeSource:  clock.System,
		ElectionConfig: election.RunnerConfig{
			MasterHoldInterval: time.Hour,
			TimeSource:         clock.System,
		},
	}, tlog.NewSequencerManager(registry, 0))
	go operation.OperationLoop(ctx)

	served := make(chan error, 1)
	go func() { served <- rpc.Serve(listener) }()
	if err := makeTree(ctx, listener.Addr().String(), treeFile); err != nil {
		return fmt.Errorf("tree: %w", err)
	}
	return <-served
}

// makeTree asks the server for a tree as Trillian's createtree command does, and leaves its number in a file.
func makeTree(ctx context.Context, address, file string) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tree, err := client.CreateAndInitTree(ctx, &trillian.CreateTreeRequest{Tree: &trillian.Tree{
		TreeState:       trillian.TreeState_ACTIVE,
		TreeType:        trillian.TreeType_LOG,
		MaxRootDuration: durationpb.New(time.Hour),
	}}, trillian.NewTrillianAdminClient(connection), trillian.NewTrillianLogClient(connection))
	if err != nil {
		return err
	}
	// Whoever waits for the file must not see half of it.
	if err := os.WriteFile(file+".new", fmt.Appendln(nil, tree.TreeId), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func main() {
	klog.InitFlags(nil)
	address := flag.String("address", "", "host:port to serve gRPC on")
	treeFile := flag.String("tree_file", "", "file to write the number of the CT log's tree to")
	flag.Parse()
	if err := run(context.Background(), *address, *treeFile); err != nil {
		fmt.Fprintln(os.Stderr, "trillian:", err)
		os.Exit(1)
	}
}
