package probe

import "time"

// Judgement is the verdict on an uplink in one family.
type Judgement struct {
	Dead   bool
	Judged bool      // a round has decided it, so that Dead is not only presumed
	Since  time.Time // when Dead became what it is
	Why    string    // "198.51.100.1 has not answered 3 times"
}

// judge damps the outcomes of rounds: down failed ones in a row make an uplink dead, up good ones
// alive again. Until there is an outcome the uplink is presumed alive.
type judge struct {
	Judgement
	down, up uint32
	row      uint32 // rounds in a row that speak against the verdict
}

// good notes a round in which enough targets answered, and says whether that changes the verdict.
func (j *judge) good(now time.Time, why func(times uint32) string) bool {
	first := !j.Judged
	j.Judged = true
	if !j.Dead {
		j.row = 0
		if first {
			j.Since, j.Why = now, why(1)
		}
		return first
	}
	// No round has judged it before: there is nothing to damp.
	if j.row++; j.row < j.up && !first {
		return false
	}
	j.set(false, now, why(j.row))
	return true
}

// bad notes a round in which too few answered.
func (j *judge) bad(now time.Time, why func(times uint32) string) bool {
	if j.Dead {
		j.Judged, j.row = true, 0
		return false
	}
	if j.row++; j.row < j.down {
		return false // it is still presumed to be alive
	}
	j.Judged = true
	j.set(true, now, why(j.row))
	return true
}

// lose notes that no round can be made. That needs no confirmation.
func (j *judge) lose(now time.Time, why string) bool {
	j.row = 0
	if j.Dead {
		return false
	}
	j.set(true, now, why)
	return true
}

func (j *judge) set(dead bool, now time.Time, why string) {
	j.Dead, j.Since, j.Why, j.row = dead, now, why, 0
}
