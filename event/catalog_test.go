package event_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/b24events/b24events/event"
)

func TestCatalogHoldsEveryDocumentedEvent(t *testing.T) {
	t.Parallel()
	want := readCatalog(t)
	var got []event.Info
	for info := range event.Catalog() {
		got = append(got, info)
	}
	require.Len(t, want, 214)
	require.Len(t, got, len(want))
	for i, e := range want {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			info := got[i]
			require.Equal(t, e.Name, info.Name, "in the documentation's order")
			require.Equal(t, e.Scope, info.Scope)
			require.Equal(t, "https://apidocs.bitrix24.com/"+e.Doc+".html", info.Doc)
			require.Equal(t, e.Remarks, info.Remarks)
			require.NotEmpty(t, info.Title)
			require.NotNil(t, info.PayloadType())
			require.Equal(t, reflect.Struct, info.PayloadType().Kind())

			itself := strings.HasPrefix(e.Name, "ONIMBOTV2") || strings.HasPrefix(e.Name, "ONIMV2") || e.Name == "ONAPPUSERREADY"
			require.Equal(t, itself, info.AutoSubscribed)
			require.Equal(t, !itself && e.Name != "ONOFFLINEEVENT", info.Offline)
			require.Equal(t, e.Name == "ONAPPINSTALL" || e.Name == "ONAPPUSERREADY", info.PlatformBound)

			found, ok := event.Lookup(e.Name)
			require.True(t, ok)
			require.Equal(t, info, found)
		})
	}
}

func TestCatalogStopsWhenItsReaderDoes(t *testing.T) {
	t.Parallel()
	n := 0
	for range event.Catalog() {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)
}

// TestDescriptorsAreSpelledAsDocumented reads the source, since a package cannot list its
// variables.
func TestDescriptorsAreSpelledAsDocumented(t *testing.T) {
	t.Parallel()
	byName := descriptorVariables(t)
	inUpperCaseOnly := map[string]string{
		"CATALOG.MEASURE.ON.ADD":       "OnCatalogMeasureAdd",
		"CATALOG.PRICE.TYPE.ON.DELETE": "OnCatalogPriceTypeDelete",
		"CATALOG.PRODUCT.ON.UPDATE":    "OnCatalogProductUpdate",
		"ONAPPTEST":                    "OnAppTest",
		"ONIMBOTMESSAGEADD":            "OnImBotMessageAdd",
		"ONIMCOMMANDADD":               "OnImCommandAdd",
		"ONIMBOTV2MESSAGEADD":          "OnImBotV2MessageAdd",
	}
	for _, e := range readCatalog(t) {
		variable := byName[e.Name]
		require.NotEmpty(t, variable, e.Name)
		if strings.HasSuffix(e.Name, "_{TYPEID}") {
			require.Equal(t, "O"+e.DocsSpelling[1:]+"Of", variable, e.Name)
			continue
		}
		require.True(t, token.IsExported(variable), variable)
		if e.DocsSpelling != "" {
			require.Equal(t, "O"+e.DocsSpelling[1:], variable, e.Name)
			continue
		}
		require.Equal(t, strings.ToUpper(variable), onPrefixed(e.Name))
		if want, ok := inUpperCaseOnly[e.Name]; ok {
			require.Equal(t, want, variable)
		}
	}
}

// onPrefixed turns CATALOG.MEASURE.ON.ADD into ONCATALOGMEASUREADD.
func onPrefixed(name string) string {
	if !strings.Contains(name, ".") {
		return name
	}
	return "ON" + strings.ReplaceAll(strings.ReplaceAll(name, ".ON.", ""), ".", "")
}

// descriptorVariables returns the variables that hold descriptors of the catalogue, and the
// functions that make them, by wire name.
func descriptorVariables(t *testing.T) map[string]string {
	t.Helper()
	generated := func(f fs.FileInfo) bool { return strings.HasSuffix(f.Name(), "_gen.go") }
	packages, err := parser.ParseDir(token.NewFileSet(), ".", generated, parser.ParseComments) //nolint:staticcheck // one package, no build tags
	require.NoError(t, err)
	found := make(map[string]string)
	for _, file := range packages["event"].Files {
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.GenDecl:
				if decl.Tok != token.VAR {
					continue
				}
				require.False(t, decl.Lparen.IsValid(), "one declaration for each, so that go doc prints it alone")
				require.Len(t, decl.Specs, 1)
				spec, ok := decl.Specs[0].(*ast.ValueSpec)
				require.True(t, ok)
				require.NotNil(t, spec.Type, "%v: the type is written out", spec.Names)
				require.Contains(t, decl.Doc.Text(), "Source: https://apidocs.bitrix24.com/api-reference/")
				call, ok := spec.Values[0].(*ast.CallExpr)
				require.True(t, ok)
				found[textOf(t, call.Args[0])] = spec.Names[0].Name
			case *ast.FuncDecl:
				if !decl.Name.IsExported() {
					continue
				}
				ast.Inspect(decl, func(n ast.Node) bool {
					if lit, ok := n.(*ast.BasicLit); ok {
						found[textOf(t, lit)+"{TYPEID}"] = decl.Name.Name
					}
					return true
				})
			}
		}
	}
	return found
}

func textOf(t *testing.T, e ast.Expr) string {
	t.Helper()
	lit, ok := e.(*ast.BasicLit)
	require.True(t, ok)
	return strings.Trim(lit.Value, `"`)
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, give, want string }{
		{"as on the wire", "ONCRMDEALUPDATE", "ONCRMDEALUPDATE"},
		{"as in the documentation", "onCrmDealUpdate", "ONCRMDEALUPDATE"},
		{"dotted", "catalog.price.type.on.add", "CATALOG.PRICE.TYPE.ON.ADD"},
		{"run-time name", "ONCRMDYNAMICITEMADD_147", "ONCRMDYNAMICITEMADD_147"},
		{"run-time name in lower case", "oncrmdynamicitemdelete_1", "ONCRMDYNAMICITEMDELETE_1"},
		{"template", "ONCRMDYNAMICITEMUPDATE_{TYPEID}", "ONCRMDYNAMICITEMUPDATE_{TYPEID}"},
		{"empty", "", ""},
		{"unknown", "ONSUBSCRIPTIONRENEW", ""},
		{"number zero", "ONCRMDYNAMICITEMADD_0", ""},
		{"negative number", "ONCRMDYNAMICITEMADD_-1", ""},
		{"signed number", "ONCRMDYNAMICITEMADD_+7", ""},
		{"padded number", "ONCRMDYNAMICITEMADD_007", ""},
		{"number beyond 64 bits", "ONCRMDYNAMICITEMADD_99999999999999999999", ""},
		{"no number", "ONCRMDYNAMICITEMADD_", ""},
		{"letters for a number", "ONCRMDYNAMICITEMADD_147X", ""},
		{"number after a name that is no template", "ONCRMDEALADD_147", ""},
		{"number alone", "_147", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			info, ok := event.Lookup(tc.give)
			require.Equal(t, tc.want != "", ok)
			require.Equal(t, tc.want, info.Name)
		})
	}
}

func TestRunTimeNameHasAllThatItsTemplateHas(t *testing.T) {
	t.Parallel()
	template, ok := event.Lookup("ONCRMDYNAMICITEMUPDATE_{TYPEID}")
	require.True(t, ok)
	info, ok := event.Lookup("ONCRMDYNAMICITEMUPDATE_147")
	require.True(t, ok)
	template.Name = info.Name
	require.Equal(t, template, info)
	require.Equal(t, reflect.TypeFor[event.CRMItem](), info.PayloadType())
}

func TestDescriptorsOfOneSmartProcess(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		of   func(int) event.Descriptor[event.CRMItem]
	}{
		{"ONCRMDYNAMICITEMADD_", event.OnCrmDynamicItemAddOf},
		{"ONCRMDYNAMICITEMUPDATE_", event.OnCrmDynamicItemUpdateOf},
		{"ONCRMDYNAMICITEMDELETE_", event.OnCrmDynamicItemDeleteOf},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d := tc.of(147)
			require.Equal(t, tc.name+"147", d.Name())
			found, ok := event.Lookup(d.Name())
			require.True(t, ok)
			require.Equal(t, found, d.Info())
			require.Equal(t, tc.name+"31", tc.of(31).Name(), "a template is not used up")
			require.Panics(t, func() { tc.of(0) })
			require.Panics(t, func() { tc.of(-147) })
		})
	}
}

func TestDefineKnowsTheCatalogue(t *testing.T) {
	t.Parallel()
	type mine struct {
		Number string `b24:"FIELDS.ID"`
	}
	d := event.Define[mine]("onCrmDealUpdate")
	require.Equal(t, event.OnCrmDealUpdate.Name(), d.Name())
	require.Equal(t, "crm.deal.get", d.Info().Fetch[0].Name)
	require.Equal(t, reflect.TypeFor[mine](), d.Info().PayloadType())
	require.Equal(t, reflect.TypeFor[event.CRMEntity](), event.OnCrmDealUpdate.Info().PayloadType(), "the catalogue stays as it was")
}

//nolint:paralleltest // it counts allocations, which tests that run beside it would add to
func TestLookupDoesNotAllocate(t *testing.T) {
	event.Lookup("ONCRMDEALUPDATE") // builds the index
	require.Zero(t, testing.AllocsPerRun(100, func() { event.Lookup("ONCRMDEALUPDATE") }))
	require.Zero(t, testing.AllocsPerRun(100, func() { event.Lookup("ONSOMETHINGELSE") }))
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"ONCRMDEALUPDATE", "onCrmDealUpdate", "ONCRMDYNAMICITEMUPDATE_147", "ONSOMETHINGELSE"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				event.Lookup(name)
			}
		})
	}
}
