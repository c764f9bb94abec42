package sandbox

import "time"

// liveRequest is the body of getliveinfo, for the list of rooms or the recordings of one.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/livebroadcast/studio-management/api_getliveinfo.html
type liveRequest struct {
	anonymous
	Start  *int   `json:"start"`
	Limit  *int   `json:"limit"`
	Action string `json:"action"`
	RoomID int64  `json:"room_id"`
}

const (
	actionReplay = "get_replay"
	liveOngoing  = 101
	livePlanned  = 102
	liveEnded    = 103
	lastRoom     = 3 // rooms are numbered from 1
)

func (q *liveRequest) check(*checkEnv) *refusal {
	switch {
	case q.Start == nil, q.Limit == nil:
		return refuse(47001)
	case *q.Start < 0, *q.Limit < 1, !oneOf(q.Action, "", actionReplay):
		return refuse(40097)
	case q.Action == actionReplay && (q.RoomID < 1 || q.RoomID > lastRoom):
		return refuse(40097)
	case q.Action == "" && *q.Start >= lastRoom:
		return refuse(9410000)
	}
	return nil
}

// liveRoom is a live broadcast room.
type liveRoom struct {
	Name       string   `json:"name"`
	RoomID     int64    `json:"roomid"`
	CoverImage string   `json:"cover_img"`
	ShareImage string   `json:"share_img"`
	Status     int      `json:"live_status"`
	StartTime  int64    `json:"start_time"`
	EndTime    int64    `json:"end_time"`
	AnchorName string   `json:"anchor_name"`
	Goods      []string `json:"goods"` // always empty
	Type       int      `json:"live_type"`
}

// liveReplay is a recording of a broadcast.
type liveReplay struct {
	ExpireTime string `json:"expire_time"`
	CreateTime string `json:"create_time"`
	MediaURL   string `json:"media_url"`
}

// liveRooms returns an ended, an ongoing and a planned broadcast, yesterday, today and tomorrow at noon.
func liveRooms(at time.Time) []liveRoom {
	noon := (shanghaiDay(at)*24 + 4) * 3600 // 12 o'clock in Shanghai is 4 o'clock in UTC
	rooms := make([]liveRoom, 0, lastRoom)
	for i, status := range [lastRoom]int{liveEnded, liveOngoing, livePlanned} {
		start := noon + int64(i-1)*24*3600
		rooms = append(rooms, liveRoom{
			Name: "直播间", RoomID: int64(i + 1), Status: status, StartTime: start, EndTime: start + 2*3600, AnchorName: "主播",
			CoverImage: "https://mmbiz.qpic.cn/sandbox/cover.jpg", ShareImage: "https://mmbiz.qpic.cn/sandbox/share.jpg", Goods: []string{},
		})
	}
	return rooms
}

func answerLive(_ *Server, x *exchange) reply {
	q, _ := x.req.(*liveRequest)
	rooms := liveRooms(x.at)
	if q.Action == actionReplay {
		var replays []liveReplay
		if room := rooms[q.RoomID-1]; room.Status == liveEnded && *q.Start == 0 {
			made := time.Unix(room.EndTime, 0).UTC()
			replays = append(replays, liveReplay{made.AddDate(0, 1, 0).Format(time.RFC3339), made.Format(time.RFC3339), "https://mmbiz.qpic.cn/sandbox/replay.m3u8"})
		}
		return jsonReply(struct {
			plainAnswer
			Total  int          `json:"total"`
			Replay []liveReplay `json:"live_replay"`
		}{plainAnswer{ErrMsg: "ok"}, len(replays), append([]liveReplay{}, replays...)})
	}
	rooms = rooms[*q.Start:]
	return jsonReply(struct {
		plainAnswer
		Total int        `json:"total"`
		Rooms []liveRoom `json:"room_info"`
	}{plainAnswer{ErrMsg: "ok"}, lastRoom, rooms[:min(*q.Limit, len(rooms))]})
}
