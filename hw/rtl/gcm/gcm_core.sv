// AES-GCM (NIST SP 800-38D) for packets of many SAs: encryption and decryption, a slot of work every `Interval` cycles.
//
// A packet is a sequence of slots: First, any number of Aad, any number of Text, Last. The slots of one follow each other
// without a gap; between packets there may be any. Out come the text and the tag, each a fixed number of cycles after the
// slot that it is of. Comparing tags is not done here. A Key slot between two packets is a command: the SA gets the keys
// that are staged (key_unit). Packets in front of it are made with the SA's old keys and those behind with its new ones;
// key_done_o says that the last of the old ones has been written over.
//
// Nothing here stalls: slot_ready_o is high one cycle in `Interval`, whatever happens.
//
// The cipher ends at these ports. Slots, text_*, tag_* and key_done_o say nothing of AES, and a core for
// ChaCha20-Poly1305 (RFC 7634) can have the same: the nonce is as long, the tag too, and a Last slot has the lengths, which
// that core would take as bytes. Only what is staged for a Key slot is a cipher's own.
//
// Latency: text TextLatency cycles after its slot, a tag TagLatency cycles after its Last; see there.

module gcm_core
  import aes_pkg::*;
  import gcm_pkg::*;
#(
  // SAs: 1 or more.
  parameter int unsigned NSa = 1024,
  // Cycles between two slots: 1, 2, 7 or 14.
  parameter int unsigned Interval = 7,
  // How the S-boxes are built.
  parameter sbox_impl_e SboxImpl = SboxTable,
  localparam int unsigned SaWidth = NSa > 1 ? $clog2(NSa) : 1,
  localparam int unsigned Powers = powers(Interval),
  localparam int unsigned PlaceWidth = Powers > 1 ? $clog2(Powers) : 1,
  localparam int unsigned PipelineLatency = pipeline_latency(Interval),
  // The cipher, and a register for the text: 17, 17, 31 and 17.
  localparam int unsigned TextLatency = PipelineLatency + 1,
  // The cipher, a register for the block, its product, and a register for the tag: 22, 22, 39 and 32.
  localparam int unsigned TagLatency = PipelineLatency + 2 + product_latency(Interval)
) (
  input  logic                  clk_i,
  input  logic                  rst_ni,
  // A slot is taken when valid and ready are high. The SA is of a First or a Key.
  output logic                  slot_ready_o,
  input  logic                  slot_valid_i,
  input  slot_t                 slot_i,
  input  logic [SaWidth-1:0]    slot_sa_i,
  // Text: as many bytes as the slot had, and zeros.
  output logic                  text_valid_o,
  output block_t                text_o,
  output logic [4:0]            text_bytes_o,
  output logic                  tag_valid_o,
  output block_t                tag_o,
  // The staged keys: a place, and what is there a cycle later. Addresses rest at 0, where the first of them is when a Key
  // slot comes; so those of two cores may be ORed for one key_unit if it serves one of them at a time.
  output logic [3:0]            round_key_addr_o,
  input  block_t                round_key_i,
  output logic [PlaceWidth-1:0] power_addr_o,
  input  block_t                power_i,
  // A Key slot has left the last stage; the next one may come, and others may be staged.
  output logic                  key_done_o
);

  localparam int unsigned FollowingWidth = $clog2(Powers + 1);

  if (!(Interval inside {1, 2, 7, 14})) begin : gen_refused_interval
    $error("gcm_core: Interval must be 1, 2, 7 or 14");
  end
  if (NSa < 1) begin : gen_refused_sas
    $error("gcm_core: NSa must be at least 1");
  end

  // Slots, with what is known since the First of their packet.
  logic taken, first, command;
  logic [SaWidth-1:0] sa, sa_q;
  logic key256, key256_q, decrypt, decrypt_q;
  slot_count_t following, following_q;

  assign taken = slot_valid_i && slot_ready_o;
  assign first = slot_i.kind == SlotFirst;
  assign command = slot_i.kind == SlotKey;
  assign sa = first || command ? slot_sa_i : sa_q;
  assign key256 = first ? slot_i.key256 : key256_q;
  assign decrypt = first ? slot_i.decrypt : decrypt_q;
  assign following = first ? slot_i.following : following_q - 13'd1;

  // Counter blocks (SP 800-38D §7.1): J0 is the nonce and 1, and the first block of text has 2. A packet has fewer blocks
  // than 2^13, so no more bits of the counter than 14 ever count.
  logic [95:0] nonce_q;
  logic [13:0] counter_q, counter;

  assign counter = first ? 14'd1 : counter_q;

  always_ff @(posedge clk_i) begin
    if (taken) begin
      sa_q <= sa;
      key256_q <= key256;
      decrypt_q <= decrypt;
      following_q <= following;
      if (first) nonce_q <= slot_i.nonce;
      if (first || slot_i.kind == SlotText) counter_q <= counter + 14'd1;
    end
  end

  // The cipher. AAD and lengths go past it.
  block_t cipher;
  logic cipher_valid;

  aes_pipeline #(
    .NSa(NSa),
    .Interval(Interval),
    .SboxImpl(SboxImpl)
  ) u_cipher (
    .clk_i,
    .rst_ni,
    .ready_o(slot_ready_o),
    .valid_i(slot_valid_i && (first || command || slot_i.kind == SlotText)),
    .command_i(command),
    .key256_i(key256),
    .sa_i(sa),
    .block_i({counter[7:0], 2'b00, counter[13:8], 16'h0000, first ? slot_i.nonce : nonce_q}),
    .round_key_addr_o,
    .round_key_i,
    .valid_o(cipher_valid),
    .block_o(cipher)
  );

  // The slots meanwhile. They move every `Interval` cycles, and are at the end when the cipher's block comes out.
  typedef struct packed {
    logic valid;
    logic first;
    logic [SaWidth-1:0] sa;
    logic [FollowingWidth-1:0] following;
  } place_t;

  typedef struct packed {
    place_t place;
    logic text;
    logic decrypt;
    logic [4:0] bytes;
    block_t data;
  } waiting_t;

  localparam int unsigned Waiting = (PipelineLatency + Interval - 1) / Interval;
  waiting_t waiting_q [Waiting];

  always_ff @(posedge clk_i) begin
    if (slot_ready_o) begin
      waiting_q[0] <= '{
        place: '{
          valid: slot_valid_i && !command,
          first: first,
          sa: sa,
          following: following > 13'(Powers) ? FollowingWidth'(Powers) : FollowingWidth'(following)
        },
        text: slot_i.kind == SlotText,
        decrypt: decrypt,
        bytes: slot_i.kind == SlotText ? slot_i.bytes : 5'd16,
        data: slot_i.data
      };
      for (int i = 1; i < int'(Waiting); i++) waiting_q[i] <= waiting_q[i-1];
    end
    if (!rst_ni) begin
      for (int i = 0; i < int'(Waiting); i++) waiting_q[i].place.valid <= 1'b0;
    end
  end

  // A slot is at the end for `Interval` cycles, and the second of them is the one that its block of the cipher is there in.
  // With a slot each cycle it is the only one. GHASH is told of it a cycle ahead.
  if (PipelineLatency % Interval != 2 % Interval) begin : gen_refused_latency
    $error("gcm_core: a slot and its block of the cipher are not at the end together");
  end
  localparam int unsigned Coming = Interval == 1 ? Waiting - 2 : Waiting - 1;
  logic comes, at_end_q;

  if (Interval == 1) begin : gen_each_cycle
    assign comes = slot_ready_o;
  end else begin : gen_one_of_them
    always_ff @(posedge clk_i) comes <= rst_ni && slot_ready_o;
  end

  always_ff @(posedge clk_i) at_end_q <= rst_ni && comes;

  waiting_t slot;
  place_t coming;
  logic slot_valid;
  block_t data, text, hashed;

  assign slot = waiting_q[Waiting-1];
  assign slot_valid = slot.place.valid && at_end_q;
  assign coming = waiting_q[Coming].place;
  assign data = first_bytes(slot.data, slot.bytes);
  assign text = first_bytes(slot.data ^ cipher, slot.bytes);
  // GHASH takes ciphertext in both directions (SP 800-38D §7.1 step 5, §7.2 step 5).
  assign hashed = slot.text && !slot.decrypt ? text : data;

  always_ff @(posedge clk_i) begin
    text_valid_o <= rst_ni && slot_valid && slot.text;
    text_o <= text;
    text_bytes_o <= slot.bytes;
  end

  // A command, by its age in cycles: 0 is none. GHASH is told of it ahead, see there.
  localparam int unsigned GhashAge = PipelineLatency - Powers - 1;
  logic [4:0] age_q;
  logic [SaWidth-1:0] command_sa_q;

  always_ff @(posedge clk_i) begin
    if (taken && command) command_sa_q <= sa;
    if (!rst_ni) age_q <= 5'd0;
    else if (taken && command) age_q <= 5'd1;
    else if (age_q == 5'(PipelineLatency + 1)) age_q <= 5'd0;
    else if (age_q != 5'd0) age_q <= age_q + 5'd1;
  end

  assign key_done_o = age_q == 5'(PipelineLatency + 1);

  logic hash_valid;
  block_t hash;

  ghash #(
    .NSa(NSa),
    .Interval(Interval)
  ) u_ghash (
    .clk_i,
    .rst_ni,
    .valid_i(coming.valid && comes),
    .first_i(coming.first),
    .sa_i(coming.sa),
    .following_i(coming.following),
    .block_i(hashed),
    .command_i(age_q == 5'(GhashAge)),
    .command_sa_i(command_sa_q),
    .power_addr_o,
    .power_i,
    .valid_o(hash_valid),
    .hash_o(hash)
  );

  // E(J0) waits for the hash that it makes a tag of (SP 800-38D §7.1 step 6): first for its packet's Last, and then for
  // the product of that. A product takes `Powers` slots and a packet has at least two, so no more than `Powers` wait.
  block_t mask_q;
  block_t masks_q [Powers];
  logic [PlaceWidth-1:0] in_q, out_q;
  logic last;

  assign last = slot_valid && slot.place.following == '0;

  always_ff @(posedge clk_i) begin
    if (slot_valid && slot.place.first) mask_q <= cipher;
    if (last) begin
      masks_q[in_q] <= mask_q;
      in_q <= Powers > 1 ? in_q + 1'b1 : '0;
    end
    if (hash_valid) out_q <= Powers > 1 ? out_q + 1'b1 : '0;
    if (!rst_ni) begin
      in_q <= '0;
      out_q <= '0;
    end
    tag_valid_o <= rst_ni && hash_valid;
    tag_o <= hash ^ masks_q[out_q];
  end

`ifndef SYNTHESIS
  // Nothing holds before the first reset.
  logic reset_seen_q, off;
  initial reset_seen_q = 1'b0;
  always_ff @(posedge clk_i) if (!rst_ni) reset_seen_q <= 1'b1;
  assign off = !rst_ni || !reset_seen_q;

  // How a caller must behave.
  logic open_q;
  slot_kind_e kind_q;
  logic [TextLatency-1:0] text_due_q;
  logic [TagLatency-1:0] tag_due_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) open_q <= 1'b0;
    else if (taken) open_q <= !(slot_i.kind inside {SlotLast, SlotKey});
    if (taken) kind_q <= slot_i.kind;
    text_due_q <= rst_ni ? {text_due_q[TextLatency-2:0], taken && slot_i.kind == SlotText} : '0;
    tag_due_q <= rst_ni ? {tag_due_q[TagLatency-2:0], taken && slot_i.kind == SlotLast} : '0;
  end

  no_gap_in_a_packet :
  assert property (@(posedge clk_i) disable iff (off) open_q && slot_ready_o |-> slot_valid_i);
  packets_follow_each_other :
  assert property (@(posedge clk_i) disable iff (off) taken |-> (first || command) == !open_q);
  last_is_where_first_said :
  assert property (@(posedge clk_i) disable iff (off) taken && !command |->
      (slot_i.kind == SlotLast) == (following == '0));
  aad_before_text :
  assert property (@(posedge clk_i) disable iff (off) taken && slot_i.kind == SlotAad |-> kind_q != SlotText);
  text_has_bytes :
  assert property (@(posedge clk_i) disable iff (off) taken && slot_i.kind == SlotText |->
      slot_i.bytes inside {[5'd1 : 5'd16]});
  known_sa :
  assert property (@(posedge clk_i) disable iff (off) taken && (first || command) |-> 32'(slot_sa_i) < NSa);
  one_key_at_a_time :
  assert property (@(posedge clk_i) disable iff (off) taken && command |-> age_q == 5'd0);

  // What it gives in return.
  cipher_is_in_step :
  assert property (@(posedge clk_i) disable iff (off) cipher_valid == (slot_valid && (slot.place.first || slot.text)));
  text_latency_is_fixed :
  assert property (@(posedge clk_i) disable iff (off) text_valid_o == text_due_q[TextLatency-1]);
  tag_latency_is_fixed :
  assert property (@(posedge clk_i) disable iff (off) tag_valid_o == tag_due_q[TagLatency-1]);
`else
  logic unused;
  assign unused = cipher_valid;
`endif

endmodule
