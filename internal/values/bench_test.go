package values_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/b24events/b24events/internal/phpform"
	"github.com/b24events/b24events/internal/values"
)

// deal has those fields of a deal that encoding/json can read too.
type deal struct {
	ID          string  `json:"ID"`
	Title       string  `json:"TITLE"`
	StageID     string  `json:"STAGE_ID"`
	Opportunity string  `json:"OPPORTUNITY"`
	CurrencyID  string  `json:"CURRENCY_ID"`
	CompanyID   string  `json:"COMPANY_ID"`
	DateCreate  string  `json:"DATE_CREATE"`
	Closed      string  `json:"CLOSED"`
	Comments    *string `json:"COMMENTS"`
	AssignedBy  string  `json:"ASSIGNED_BY_ID"`
}

// dealList is a page of crm.deal.list: 50 rows with all fields.
func dealList() []byte {
	rows := make([]string, 50)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"ID":"%d","TITLE":"\u0421\u0434\u0435\u043b\u043a\u0430 %d","TYPE_ID":"SALE",`+
			`"STAGE_ID":"NEW","PROBABILITY":null,"CURRENCY_ID":"EUR","OPPORTUNITY":"1250.00",`+
			`"IS_MANUAL_OPPORTUNITY":"N","TAX_VALUE":null,"LEAD_ID":null,"COMPANY_ID":"17",`+
			`"CONTACT_ID":"23","QUOTE_ID":null,"BEGINDATE":"2026-01-15T03:00:00+03:00",`+
			`"CLOSEDATE":"2026-01-22T03:00:00+03:00","ASSIGNED_BY_ID":"1","CREATED_BY_ID":"1",`+
			`"MODIFY_BY_ID":"1","DATE_CREATE":"2026-01-15T10:30:00+03:00",`+
			`"DATE_MODIFY":"2026-01-15T10:30:00+03:00","OPENED":"Y","CLOSED":"N",`+
			`"COMMENTS":"as agreed on the phone","ADDITIONAL_INFO":null,"LOCATION_ID":null,`+
			`"CATEGORY_ID":"0","STAGE_SEMANTIC_ID":"P","IS_NEW":"Y","IS_RECURRING":"N",`+
			`"IS_RETURN_CUSTOMER":"N","SOURCE_ID":"CALL","UTM_SOURCE":null,"UTM_MEDIUM":null,`+
			`"UF_CRM_1743165530":["a","b"]}`, 1000+i, i)
	}
	return []byte("[" + strings.Join(rows, ",") + "]")
}

func BenchmarkDealList(b *testing.B) {
	doc := dealList()
	rules := values.New(nil)
	for _, bench := range []struct {
		name   string
		decode func(dst any) error
	}{
		{"json", func(dst any) error { return json.Unmarshal(doc, dst) }},
		{"values", func(dst any) error { _, err := rules.Unmarshal(doc, nil, dst); return err }},
	} {
		b.Run("structs/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var list []deal
				if err := bench.decode(&list); err != nil || len(list) != 50 {
					b.Fatal(err)
				}
			}
		})
		b.Run("maps/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var list []map[string]any
				if err := bench.decode(&list); err != nil || len(list) != 50 {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPayload(b *testing.B) {
	v, err := phpform.Decode("FIELDS[ID]=42", phpform.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	type payload struct {
		ID int64 `b24:"FIELDS.ID|ID"`
	}
	rules := values.New(nil)
	b.ReportAllocs()
	for b.Loop() {
		var p payload
		if _, err := rules.Decode(v, nil, &p); err != nil || p.ID != 42 {
			b.Fatal(err)
		}
	}
}
