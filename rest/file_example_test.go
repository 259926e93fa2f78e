package rest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/b24events/b24events/event/eventtest"
	"github.com/b24events/b24events/rest"
)

func ExampleNewFile() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()

	photo := strings.NewReader("what a camera saw")
	client := api.Portal(portal.MemberID())
	err := client.Call(context.Background(), "crm.deal.update", map[string]any{
		"id":     1,
		"fields": map[string]any{"UF_CRM_1700000000": map[string]any{"fileData": rest.NewFile("a.jpg", photo, photo.Size())}},
	}, nil)
	fmt.Println(err)
	// Output: <nil>
}

func ExampleClient_Upload() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()
	portal.Always("disk.folder.uploadfile", eventtest.Raw(http.StatusOK, "application/json",
		`{"result":{"field":"file","uploadUrl":"`+portal.ClientEndpoint()+`upload.json?token=signature"}}`))
	portal.Always("upload", eventtest.Raw(http.StatusOK, "application/json", `{"result":{"ID":9011,"NAME":"report.txt"}}`))

	content := strings.NewReader("all is well")
	client := api.Portal(portal.MemberID())
	response, err := client.Upload(context.Background(), "disk.folder.uploadfile", map[string]any{"id": 8930},
		rest.NewFile("report.txt", content, content.Size()))
	if err != nil {
		fmt.Println(err)
		return
	}
	var object struct{ ID, Name string }
	err = response.Decode(&object)
	fmt.Println(object.ID, object.Name, err)
	// Output: 9011 report.txt <nil>
}

func ExampleClient_Download() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()
	portal.Always("download", eventtest.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Disposition", `attachment; filename="report.txt"`)
		_, _ = io.WriteString(w, "all is well")
	})))

	const maxSize = 100 << 20
	client := api.Portal(portal.MemberID())
	file, err := client.Download(context.Background(), portal.ClientEndpoint()+"download.json?token=signature", maxSize)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(file)
	fmt.Println(file.Name, string(content), err)
	// Output: report.txt all is well <nil>
}

func ExampleCall3() {
	portal, api := stage()
	defer func() { _ = portal.Close() }()
	portal.Always(eventtest.AnyMethod, eventtest.Raw(http.StatusOK, "application/json", `{"result":{"item":{"id":51,"title":"Report"}}}`))

	type Task struct{ Item struct{ ID, Title string } }
	task, err := rest.Call3[Task](context.Background(), api.Portal(portal.MemberID()), "tasks.task.get",
		map[string]any{"id": 51, "select": []string{"id", "title"}})
	fmt.Println(task.Item.Title, err)
	// Output: Report <nil>
}
