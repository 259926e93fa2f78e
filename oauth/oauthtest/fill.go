package oauthtest

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/b24events/b24events/oauth"
)

// secret is in every text of an installation that the suite makes, so that the suite can search for
// it.
const secret = "planted-in-oauthtest" //nolint:gosec // opens nothing

// installation returns an installation with a value in every field. Different seeds give different
// values everywhere.
func installation(t *testing.T, seed int64) oauth.Installation {
	t.Helper()
	var in oauth.Installation
	v := reflect.ValueOf(&in).Elem()
	for i := range v.NumField() {
		fill(t, v.Type().Field(i).Name, v.Field(i), seed*int64(v.NumField())+int64(i))
	}
	return in
}

// fill sets a field to a value with which stores are known to have problems.
func fill(t *testing.T, name string, v reflect.Value, n int64) {
	t.Helper()
	switch at, isTime := reflect.TypeAssert[*time.Time](v.Addr()); {
	case isTime:
		zone := time.FixedZone("", 5*3600+1800)
		*at = time.Date(2031, 12, 31, 23, 59, 59, 0, zone).Add(time.Duration(n)*time.Hour + 123456*time.Microsecond)
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("%s %s %d \"'\\\n\r\t\v%%{}[]<>&; -- é e\u0301 \u2028 😀", secret, name, n))
	case v.CanInt():
		v.SetInt(1<<53 + n) // not every integer type can hold that
		if v.Int() != 1<<53+n {
			v.SetInt(n % 100)
		}
	case v.CanUint():
		v.SetUint(uint64(n) % 100) //nolint:gosec // n is not negative
	case v.Kind() == reflect.Bool:
		v.SetBool(n%2 == 0)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range v.Len() {
			fill(t, fmt.Sprint(name, i), v.Index(i), n)
		}
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(t, name+"."+v.Type().Field(i).Name, v.Field(i), n)
		}
	default:
		t.Fatalf("oauthtest cannot fill Installation.%s of type %s; extend the function fill of the suite", name, v.Type())
	}
}

// difference returns the name of the first field in which two installations differ, or nothing. It
// shows no values.
func difference(a, b oauth.Installation) string {
	return differ("Installation", reflect.ValueOf(a), reflect.ValueOf(b))
}

func differ(name string, a, b reflect.Value) string {
	if at, ok := reflect.TypeAssert[time.Time](a); ok {
		if bt, _ := reflect.TypeAssert[time.Time](b); !at.Equal(bt) {
			return name
		}
		return ""
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if d := differ(name+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
	case reflect.Slice:
		if a.Len() != b.Len() {
			return name
		}
		for i := range a.Len() {
			if d := differ(fmt.Sprintf("%s[%d]", name, i), a.Index(i), b.Index(i)); d != "" {
				return d
			}
		}
	default:
		if !a.Equal(b) {
			return name
		}
	}
	return ""
}

// scribble overwrites everything that copies of an installation would share.
func scribble(in oauth.Installation) {
	v := reflect.ValueOf(in)
	for i := range v.NumField() {
		if field := v.Field(i); field.Kind() == reflect.Slice {
			for j := range field.Len() {
				field.Index(j).SetZero()
			}
		}
	}
}
