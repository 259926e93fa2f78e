package event

import "time"

// User is a user who signed in for the first time; invitations send nothing. Any field but ID may
// be missing, which leaves it empty.
type User struct {
	ID               int64     `json:"ID"`
	Active           bool      `json:"ACTIVE"`
	Email            string    `json:"EMAIL"`
	Name             string    `json:"NAME"`
	LastName         string    `json:"LAST_NAME"`
	PersonalGender   string    `json:"PERSONAL_GENDER"`   // M or F
	PersonalBirthday string    `json:"PERSONAL_BIRTHDAY"` // a day without time zone, 1990-01-01
	Departments      []int64   `json:"UF_DEPARTMENT"`     // empty for extranet users
	DateRegister     time.Time `json:"DATE_REGISTER"`
	WorkPosition     string    `json:"WORK_POSITION"`
	EmploymentDate   string    `json:"UF_EMPLOYMENT_DATE"` // a day without time zone, 2024-04-05
	Other            Data      `b24:",rest" json:"OTHER"`  // further fields of the user that the portal sent
}
