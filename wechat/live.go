package wechat

import (
	"context"
	"errors"
	"strconv"
	"time"
)

// LiveStatus is the state of a live room, by WeChat's number.
type LiveStatus int

// The states of live rooms.
const (
	LiveOngoing  LiveStatus = 101
	LivePlanned  LiveStatus = 102
	LiveEnded    LiveStatus = 103
	LiveBanned   LiveStatus = 104
	LivePaused   LiveStatus = 105
	LiveAbnormal LiveStatus = 106
	LiveExpired  LiveStatus = 107
)

// LiveRooms is a page of an app's live rooms, the latest first.
type LiveRooms struct {
	Total int64 // rooms on all pages
	Rooms []LiveRoom
}

// LiveRoom is a live room of a mini program.
type LiveRoom struct {
	ID         int64
	Name       string
	Status     LiveStatus
	Start, End time.Time // as planned
	Anchor     string    // the name of who presents
	CoverImage string    // URL
	ShareImage string    // URL
	Goods      []LiveGoods
}

// LiveGoods are goods on offer in a live room.
type LiveGoods struct {
	ID         int64
	Name       string
	Page       string // of the mini program
	CoverImage string // URL
	// The price in fen. What the prices mean depends on PriceType: 1 one price (Price); 2 from
	// Price to Price2; 3 Price2 instead of Price.
	Price, Price2, PriceType int64
}

// LiveReplays is a page of the recordings of a live room that has ended.
type LiveReplays struct {
	Total   int64 // recordings on all pages
	Replays []LiveReplay
}

// LiveReplay is a recording of a live room. WeChat makes it about ten minutes after the end.
type LiveReplay struct {
	URL     string
	Created time.Time
	Expires time.Time
}

// The errcodes with which WeChat says that there is nothing to list.
const (
	codeNoRooms = 9410000
	codeNoData  = 1007
)

type liveQuestion struct {
	Start  int    `json:"start"`
	Limit  int    `json:"limit"`
	Action string `json:"action,omitempty"`
	RoomID int64  `json:"room_id,omitempty"`
}

type liveJSON struct {
	status
	Total   number           `json:"total"`
	Rooms   []liveRoomJSON   `json:"room_info"`
	Replays []liveReplayJSON `json:"live_replay"`
}

type liveRoomJSON struct {
	ID         number `json:"roomid"`
	Name       text   `json:"name"`
	Status     number `json:"live_status"`
	Start      number `json:"start_time"`
	End        number `json:"end_time"`
	Anchor     text   `json:"anchor_name"`
	CoverImage text   `json:"cover_img"`
	ShareImage text   `json:"share_img"`
	Goods      []struct {
		ID         number  `json:"goods_id"`
		Name       text    `json:"name"`
		Page       text    `json:"url"`
		CoverImage text    `json:"cover_img"`
		Price      float64 `json:"price"`
		Price2     float64 `json:"price2"`
		PriceType  number  `json:"price_type"`
	} `json:"goods"`
}

type liveReplayJSON struct {
	URL     text `json:"media_url"`
	Created text `json:"create_time"`
	Expires text `json:"expire_time"`
}

// LiveRooms lists live rooms, from the room at index start on and at most limit, for which WeChat
// recommends 100 or less (getLiveInfo).
// https://developers.weixin.qq.com/miniprogram/dev/server/API/livebroadcast/studio-management/api_getliveinfo.html
func (c *Client) LiveRooms(ctx context.Context, app string, start, limit int) (LiveRooms, error) {
	v, err := c.liveInfo(ctx, app, liveQuestion{Start: start, Limit: limit})
	rooms := LiveRooms{Total: v.Total.value}
	for _, r := range v.Rooms {
		rooms.Rooms = append(rooms.Rooms, r.room())
	}
	return rooms, err
}

// LiveReplays lists the recordings of a live room, as LiveRooms lists rooms.
func (c *Client) LiveReplays(ctx context.Context, app string, room int64, start, limit int) (LiveReplays, error) {
	v, err := c.liveInfo(ctx, app, liveQuestion{Start: start, Limit: limit, Action: "get_replay", RoomID: room})
	replays := LiveReplays{Total: v.Total.value}
	for _, r := range v.Replays {
		replays.Replays = append(replays.Replays, LiveReplay{URL: string(r.URL), Created: liveTime(r.Created), Expires: liveTime(r.Expires)})
	}
	return replays, err
}

// liveInfo calls getLiveInfo. The errcodes for nothing to list are no errors.
func (c *Client) liveInfo(ctx context.Context, app string, q liveQuestion) (liveJSON, error) {
	v, err := query(ctx, c, app, EndpointLive, q, func(rep reply, sensitive sensitiveValues) (v liveJSON, err error) {
		if err := rep.decode(&v, &v.status, sensitive); err != nil {
			return liveJSON{}, err
		}
		if !v.ErrCode.present && !v.Total.present {
			return liveJSON{}, rep.answerError("no total in the answer")
		}
		return v, nil
	})
	var apiErr *APIError
	if errors.As(err, &apiErr) && (apiErr.Code == codeNoRooms || apiErr.Code == codeNoData) {
		return liveJSON{}, nil
	}
	return v, err
}

func (r liveRoomJSON) room() LiveRoom {
	room := LiveRoom{
		ID: r.ID.value, Name: string(r.Name), Status: LiveStatus(r.Status.value), Anchor: string(r.Anchor),
		Start: time.Unix(r.Start.value, 0), End: time.Unix(r.End.value, 0),
		CoverImage: string(r.CoverImage), ShareImage: string(r.ShareImage),
	}
	for _, g := range r.Goods {
		room.Goods = append(room.Goods, LiveGoods{
			ID: g.ID.value, Name: string(g.Name), Page: string(g.Page), CoverImage: string(g.CoverImage),
			Price: int64(g.Price), Price2: int64(g.Price2), PriceType: g.PriceType.value,
		})
	}
	return room
}

// liveTime reads the time of a recording: RFC 3339, or seconds since 1970. It is zero for others.
func liveTime(t text) time.Time {
	if unix, err := strconv.ParseInt(string(t), 10, 64); err == nil {
		return time.Unix(unix, 0)
	}
	at, err := time.Parse(time.RFC3339, string(t))
	if err != nil {
		return time.Time{}
	}
	return at
}
