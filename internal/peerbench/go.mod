module github.com/b24events/b24events/internal/peerbench

go 1.25.0

require (
	github.com/b24events/b24events v0.0.0
	github.com/go-playground/form/v4 v4.2.1
	github.com/stretchr/testify v1.12.1
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/oauth2 v0.36.0 // indirect
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/time v0.15.0 // indirect
)

replace github.com/b24events/b24events => ../..
