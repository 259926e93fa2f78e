package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/b24events/b24events/event"
)

// payload is one body, and how to decode it.
type payload struct {
	name   string
	title  string
	body   []byte
	decode func(d *event.Delivery) error // into the typed payload, which is checked
	form   func() formTarget
}

// Placeholders in a body, which the load generator replaces so that requests come from different
// portals. They are as long as real values.
const (
	memberMark = "memberxxxxxxxxxxxxxxxxxxxxxxxxxx"
	tokenMark  = "tokenxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	objectMark = "100000" // the ID of a deal or of a message
)

const (
	clientEndpoint = "https://acme.bitrix24.com/rest/"
	serverEndpoint = "https://oauth.bitrix.info/rest/"
)

var errDecoded = errors.New("the payload was not decoded")

func payloads() ([]payload, error) {
	all := []payload{
		{
			name: "deal", title: "deal update", body: dealUpdate(),
			decode: func(d *event.Delivery) error {
				e, err := event.OnCrmDealUpdate.Decode(d)
				if err == nil && e.ID != 100000 {
					err = errDecoded
				}
				return err
			},
			form: func() formTarget { return new(formDeal) },
		},
		{
			name: "bot", title: "bot message", body: botMessage(),
			decode: func(d *event.Delivery) error {
				e, err := event.OnImBotMessageAdd.Decode(d)
				if err == nil && (e.Params.MessageID != 100000 || e.Bots["61"].ID != 61) {
					err = errDecoded
				}
				return err
			},
			form: func() formTarget { return new(formBotMessage) },
		},
	}
	for _, p := range all {
		for _, mark := range []string{memberMark, tokenMark, objectMark} {
			if !bytes.Contains(p.body, []byte(mark)) {
				return nil, fmt.Errorf("the %s lacks a mark", p.title)
			}
		}
	}
	return all, nil
}

// fields is a form in the order in which it is sent.
type fields struct{ b strings.Builder }

func (f *fields) add(key, value string) {
	if f.b.Len() > 0 {
		f.b.WriteByte('&')
	}
	f.b.WriteString(url.QueryEscape(key))
	f.b.WriteByte('=')
	f.b.WriteString(url.QueryEscape(value))
}

// all adds pairs under a prefix, each in its own pair of brackets.
func (f *fields) all(prefix string, pairs ...string) {
	for pair := range slices.Chunk(pairs, 2) {
		f.add(prefix+"["+pair[0]+"]", pair[1])
	}
}

// auth adds an auth block.
func (f *fields) auth(prefix string, more ...string) {
	f.all(prefix,
		"access_token", strings.Repeat("4fb1e5c8", 8)+"d",
		"expires", "1764374400",
		"expires_in", "3600",
		"scope", "crm,im,imbot",
		"domain", "acme.bitrix24.com",
		"server_endpoint", serverEndpoint,
		"status", "P",
		"client_endpoint", clientEndpoint,
		"member_id", memberMark,
		"user_id", "7",
	)
	f.all(prefix, more...)
	f.all(prefix, "application_token", tokenMark)
}

func dealUpdate() []byte {
	var f fields
	f.add("event", "ONCRMDEALUPDATE")
	f.add("event_handler_id", "31")
	f.all("data[FIELDS]", "ID", objectMark)
	f.add("ts", "1764370800")
	f.auth("auth")
	return []byte(f.b.String())
}

// messageText is a long message in Cyrillic: every letter of it is escaped twice.
func messageText() string {
	return strings.Repeat("Коллеги, договор подписан; отгрузка во вторник. ", 24)
}

func botMessage() []byte {
	refresh := strings.Repeat("9c20b7d1", 8) + "e5f6a7"
	const bot = "data[BOT][61]"
	var f fields
	f.add("event", "ONIMBOTMESSAGEADD")
	f.add("event_handler_id", "32")
	f.auth(bot, "refresh_token", refresh, "client_id", "local.5f3a9e2b7c1d40.86420975")
	f.auth(bot+"[AUTH]", "refresh_token", refresh, "client_id", "local.5f3a9e2b7c1d40.86420975")
	f.all(bot, "BOT_ID", "61", "BOT_CODE", "helper")
	f.all("data[PARAMS]",
		"MESSAGE", messageText(), "TEMPLATE_ID", "0f0c6c1c-6d0e-4b71-9b0a-4a3ff0c5f5aa", "MESSAGE_TYPE", "C",
		"FROM_USER_ID", "7", "DIALOG_ID", "chat2048", "TO_CHAT_ID", "2048", "AUTHOR_ID", "7", "SYSTEM", "N",
		"CHAT_ID", "2048", "CHAT_TITLE", "Отгрузки", "CHAT_AUTHOR_ID", "7", "CHAT_TYPE", "C", "CHAT_AVATAR", "0",
		"CHAT_COLOR", "AZURE", "CHAT_ENTITY_TYPE", "THREAD", "CHAT_ENTITY_ID", "", "CHAT_ENTITY_DATA_1", "",
		"CHAT_ENTITY_DATA_2", "", "CHAT_ENTITY_DATA_3", "", "CHAT_EXTRANET", "N", "CHAT_PREV_MESSAGE_ID", "99999",
		"CHAT_CAN_POST", "MEMBER", "RID", "7", "IS_MANAGER", "N", "PUSH", "Y", "PUSH_IMPORTANT", "N",
		"RECENT_SKIP_AUTHOR", "N", "CONVERT", "N", "SKIP_COMMAND", "N", "SKIP_COUNTER_INCREMENTS", "N",
		"SILENT_CONNECTOR", "N", "SKIP_CONNECTOR", "N", "IMPORTANT_CONNECTOR", "N", "NO_SESSION_OL", "N",
		"COMMAND_CONTEXT", "TEXTAREA", "CHAT_USER_COUNT", "4", "PLATFORM_CONTEXT", "web", "TO_USER_ID", "61",
		"MESSAGE_ID", objectMark, "LANGUAGE", "ru",
	)
	f.all("data[USER]",
		"ID", "7", "NAME", "Анна Петрова", "FIRST_NAME", "Анна", "LAST_NAME", "Петрова", "WORK_POSITION", "Логист",
		"GENDER", "F", "IS_BOT", "N", "IS_CONNECTOR", "N", "IS_NETWORK", "N", "IS_EXTRANET", "N",
	)
	f.add("ts", "1764370800")
	f.auth("auth", "refresh_token", refresh, "client_id", "local.5f3a9e2b7c1d40.86420975")
	return []byte(f.b.String())
}

// formTarget is a target for go-playground/form. It reports whether it was filled.
type formTarget interface{ filled() bool }

type formAuth struct {
	AccessToken      string `form:"access_token"`
	RefreshToken     string `form:"refresh_token"`
	ApplicationToken string `form:"application_token"`
	Expires          int64  `form:"expires"`
	ExpiresIn        int64  `form:"expires_in"`
	Scope            string `form:"scope"`
	Domain           string `form:"domain"`
	ServerEndpoint   string `form:"server_endpoint"`
	ClientEndpoint   string `form:"client_endpoint"`
	Status           string `form:"status"`
	MemberID         string `form:"member_id"`
	UserID           int64  `form:"user_id"`
}

type formEnvelope struct {
	Event     string   `form:"event"`
	HandlerID int64    `form:"event_handler_id"`
	Time      int64    `form:"ts"`
	Auth      formAuth `form:"auth"`
}

type formDeal struct {
	formEnvelope

	Data struct {
		Fields struct {
			ID int64 `form:"ID"`
		} `form:"FIELDS"`
	} `form:"data"`
}

func (f *formDeal) filled() bool {
	return f.Data.Fields.ID == 100000 && f.Auth.MemberID == memberMark
}

// formBotMessage has fewer fields than event.BotMessage.
type formBotMessage struct {
	formEnvelope

	Data struct {
		Bots   map[string]formBot `form:"BOT"`
		Params struct {
			Message    string `form:"MESSAGE"`
			MessageID  int64  `form:"MESSAGE_ID"`
			DialogID   string `form:"DIALOG_ID"`
			ChatID     int64  `form:"CHAT_ID"`
			ChatTitle  string `form:"CHAT_TITLE"`
			ChatType   string `form:"CHAT_TYPE"`
			FromUserID int64  `form:"FROM_USER_ID"`
			ToUserID   int64  `form:"TO_USER_ID"`
			Language   string `form:"LANGUAGE"`
		} `form:"PARAMS"`
		User struct {
			ID        int64  `form:"ID"`
			Name      string `form:"NAME"`
			FirstName string `form:"FIRST_NAME"`
			LastName  string `form:"LAST_NAME"`
		} `form:"USER"`
	} `form:"data"`
}

type formBot struct {
	formAuth

	BotID int64  `form:"BOT_ID"`
	Code  string `form:"BOT_CODE"`
}

func (f *formBotMessage) filled() bool {
	return f.Data.Params.MessageID == 100000 && f.Data.User.ID == 7 && f.Auth.MemberID == memberMark &&
		f.Data.Bots["61"].BotID == 61
}
