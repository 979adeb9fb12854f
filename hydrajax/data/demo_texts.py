"""The texts of the simulated users: small writing requests, each answered in six different styles.

Written for this project. In every topic the styles come in the same order: brief, formal, warm, factual, vivid, and
asking; but they are written freely, so that a style is a tendency and no fixed wording.
"""

from collections.abc import Mapping

STYLES = ("brief", "formal", "warm", "factual", "vivid", "asking")

TOPICS: Mapping[str, tuple[str, ...]] = {
    "Invite a neighbour to a summer barbecue": (
        "Barbecue at ours on Saturday. Come hungry.",
        "We should be delighted to welcome you to a barbecue in our garden this weekend. Refreshments will be provided "
        "for all of our guests.",
        "We're firing up the grill and it just won't be a party without you! Bring the whole lovely family!",
        "Barbecue at 14 Elm Road, Saturday 12 July, from 4 to 9 pm. Tom is grilling 30 sausages and Rosa brings 2 "
        "salads.",
        "Smoke will curl over the hedge, corn will blacken on the glowing coals, and cold lemonade will wait under the "
        "whispering birch.",
        "Would you care to join us for a barbecue on Saturday? And could you please tell me whether you eat meat?",
    ),
    "Thank a colleague for covering your shift": (
        "Thanks for Tuesday. I owe you one.",
        "I wish to express my sincere gratitude for your readiness to assume my duties at such short notice. It was "
        "greatly appreciated by the entire department.",
        "You're an absolute star for jumping in! I'm so happy to work with someone as kind as you!",
        "You covered 8 hours on Tuesday 3 March and served 46 tables; Nadia told me. I take your shift on Friday 20 "
        "March.",
        "While I lay shivering under a heap of scratchy blankets, you carried steaming plates through that roaring, "
        "golden evening rush.",
        "May I thank you properly for Tuesday? Would you please let me take one of your shifts, and which one suits "
        "you best?",
    ),
    "Remind a flatmate about the rent": (
        "Rent's due today. Please pay.",
        "I should like to remind you that your share of the rent is payable today. Kindly arrange the transfer at your "
        "earliest convenience, in accordance with our agreement.",
        "Hey you, it's that time of the month again! I love sharing this place with you, so let's keep the landlord "
        "happy!",
        "Your half of the rent is 415 euros, due on 1 June. Account 7781 at Nordbank, reference Flat 3B.",
        "The landlord's shadow creeps up the creaking stairs, and our little glass jar for the rent stands dusty and "
        "bare.",
        "Could you please send me your share of the rent today? Or would it help you if we split it into two parts?",
    ),
    "Describe your morning walk": (
        "Round the pond and back. Quiet.",
        "Each morning I undertake a walk of moderate length through the adjoining park. The exercise contributes "
        "considerably to my concentration during the subsequent hours of work.",
        "I just love my morning walk! Saying hello to all the happy dogs makes my whole day!",
        "I leave at 6:40, walk 3.2 km along the Kennet to Mill Bridge, and am back at 7:25 with 5,100 steps.",
        "Mist hangs like wet silk over the silver pond, the gravel crunches, and a blackbird pours its sweet, bright "
        "song into the cold air.",
        "Do you know that hour when nobody is about yet? Isn't it the best time to think, and would you join me "
        "one day?",
    ),
    "Recommend a book to a friend": (
        "Read it. Short, sad, perfect.",
        "I would recommend this novel without reservation. The author examines questions of loyalty with considerable "
        "restraint, and the composition as a whole is remarkably assured.",
        "Oh, you're going to adore this one! I laughed, I cried, I hugged my pillow, and I can't wait to talk about it "
        "with you!",
        "It has 312 pages in 28 chapters, plays in Lisbon in 1938, and won 2 prizes. Hall's Books has it for 9 euros.",
        "Its pages smell of salt and burning sugar; you hear shutters clatter, and a velvet darkness swallows the "
        "glittering harbour.",
        "May I suggest a book to you? Have you ever wondered what you would do if your best friend asked you to lie?",
    ),
    "Apologise for being late to a meeting": (
        "Sorry I was late. Bus trouble.",
        "Please accept my apologies for my delayed arrival at this morning's meeting. I regret any inconvenience "
        "caused and shall ensure that it does not recur.",
        "I'm so, so sorry I kept you all waiting! You're the most patient team in the world, cake's on me!",
        "I came 25 minutes late because the 8:12 from Graz stood at Bruck until 8:37. I have read pages 1 to 6 of the "
        "minutes.",
        "The bus wheezed, coughed black smoke and died in the pouring rain, and I ran the last mile with squelching "
        "shoes.",
        "Would you please forgive me for being late? Is there anything I missed that I could make up for today?",
    ),
    "Ask the landlord to repair the heating": (
        "Heating's broken again. Please fix it.",
        "I am writing to inform you that the heating in our apartment has ceased to function. I request that a "
        "qualified technician be engaged without further delay, pursuant to section four of the lease.",
        "Hello there! We really love living here, and we'd be so happy and cosy if the heating came back to life!",
        "Since Monday 9 January, 18:00, the 4 radiators in Flat 12 are cold; the boiler, a Brandt K20, shows error 63.",
        "Our breath hangs white in the icy kitchen, frost glitters inside the windows, and the pipes only groan and "
        "rattle.",
        "Could you please send someone to look at the heating? When might that be possible, and may I do anything "
        "until then?",
    ),
    "Congratulate a friend on a new job": (
        "Well done. They chose right.",
        "Permit me to congratulate you on your appointment. Your experience and diligence will undoubtedly prove "
        "of considerable value to the organisation.",
        "You did it, you did it! I'm bursting with joy for you, you wonderful, clever human!",
        "From 1 September you lead 9 engineers at Halden, 6 years after your start at Brix. That is 2 steps at once.",
        "Doors that were stiff with rust swing wide and golden light floods in; step through with your bright, "
        "burning courage.",
        "May I be the first to congratulate you? How did you hear about it, and would you let me cook dinner for you?",
    ),
    "Review a small café": (
        "Good coffee. Small tables. Cheap.",
        "The establishment offers a limited selection of beverages of consistently high quality. Service is attentive, "
        "although the premises are somewhat confined.",
        "I've fallen in love with this sweet little place! The people are so kind and the cake's a dream!",
        "Espresso 1.80, cheesecake 3.50, 7 tables, open from 7 to 19 except on Sundays. It is opposite Saint Anne's.",
        "Steam hisses, dark beans crackle in the roaster, and the warm, bitter scent drifts over the worn "
        "velvet chairs.",
        "Have you been there yet? Would you believe that they please everybody in a room no larger than a garage?",
    ),
    "Announce that your cat is lost": (
        "Cat missing. Grey. Please call.",
        "We regret to announce that our cat has been absent since the beginning of the week. Any information "
        "regarding its whereabouts would be gratefully received.",
        "Our darling little Momo hasn't come home and we miss her so much! Big hugs to anyone who's seen her!",
        "Missing since Sunday 5 May, 21:30, near 8 Quay Street: Momo, female, 4 years, 3.8 kg, chip 2764. Call Ines.",
        "Somewhere under the dripping hedges crouches a smoke-grey cat with amber eyes, and her silver bell is silent.",
        "Have you seen our cat? Would you please look into your shed or cellar, and may we come and search with you?",
    ),
    "Offer a used bicycle for sale": (
        "Bike for sale. Rides fine.",
        "A bicycle in well-maintained condition is offered for sale. Interested parties are invited to arrange an "
        "inspection; a modest reduction of the price may be considered.",
        "My beloved bike's looking for a new best friend! We've had such happy years, and it'll make you smile too!",
        "Steel frame 56 cm, 21 gears, new chain in 2025, 140 euros. Bring cash to Porter Lane 3 after 17:00.",
        "Cherry-red and gleaming, it hums over wet cobbles like a bee, and its leather saddle creaks softly in "
        "the sun.",
        "Are you looking for a bicycle? Would you like to try it, and could you please tell me how tall you are?",
    ),
    "Say what the weather is like": (
        "Grey. Windy. Take a coat.",
        "Conditions are at present unsettled, with considerable cloud and a moderate breeze. An improvement is not "
        "anticipated before the end of the week.",
        "It's gorgeous out, you lovely people! Go and get yourselves some sunshine and a big ice cream!",
        "At 14:00 it is 11 degrees with wind from the west at 35 km/h; Leeds had 6 mm of rain since Monday.",
        "Bruised purple clouds roll over the hills, the wind howls in the chimney, and cold drops sting like "
        "thrown sand.",
        "Have you looked out of the window? Would you please take an umbrella, or do you like to come home wet?",
    ),
    "Tell the teacher that your child is ill": (
        "Leo's ill. Not in today.",
        "I am writing to inform you that our son is unfortunately indisposed and therefore unable to attend "
        "lessons. A medical certificate will be submitted upon his return.",
        "Poor little Leo's got a nasty cold and he's so sad to miss your lovely class! Big hugs to everybody!",
        "Leo Brandt, class 3B, has a fever of 38.9 and stays at home until Thursday 14 November. He has pages "
        "20 to 24.",
        "He lies flushed and glistening under his crumpled quilt, coughing like a rusty gate, his eyes dull as "
        "wet slate.",
        "Would you please excuse Leo today? Could you tell me what he misses, and may his sister collect the books?",
    ),
    "Describe your favourite soup": (
        "Lentils, lemon, salt. Nothing else.",
        "The soup which I prefer is prepared from red lentils and a light stock. It is, in my estimation, both "
        "nourishing and economical, and it is therefore suitable for any season.",
        "Oh, I could hug whoever invented tomato soup! It's like a happy blanket in a bowl and I'm so in love with it!",
        "200 g of lentils, 1 litre of stock, 2 carrots, 1 lemon: 25 minutes, 4 plates, 310 calories each, says "
        "Aunt May.",
        "Thick, golden and steaming, it smells of burnt butter and sweet onions, and the first spoonful glows in the "
        "chest.",
        "Do you like lentils? May I cook it for you one evening, and would you please be honest about the salt?",
    ),
    "Suggest a film for Friday evening": (
        "The old western. Ninety minutes. Done.",
        "I would propose the recently restored drama, which has been received favourably by the critics. Its duration "
        "should prove acceptable to all of those present.",
        "Let's watch the one with the penguins! It's the sweetest thing ever, we'll laugh and cry and eat all the "
        "popcorn!",
        "North Line, 1974, 104 minutes, directed by Vera Holm; it starts at 20:15 at the Rex and costs 8 euros.",
        "Rain-slick streets, a trumpet moaning in blue smoke, scarlet lipstick on a cracked glass: that is the one.",
        "What would you like to see? Might I suggest a comedy, and would you please pick it from these two?",
    ),
    "Tell a guest how to find your house": (
        "Left at the church. Green door.",
        "Upon leaving the station, please proceed in a northerly direction as far as the church. Our residence is "
        "situated immediately behind it and is clearly indicated.",
        "You can't miss us, we'll be waving like mad from the window! We're so excited that you're coming!",
        "Take bus 27 from Platform 2, get off after 6 stops at Mill Lane, walk 150 m; it is number 9, code 4410.",
        "Follow the scent of the bakery up the crooked, mossy steps until a crimson door glows under dripping "
        "wisteria.",
        "Are you coming by train or by car? Would you please ring when you arrive, so that I may come and meet you?",
    ),
    "Decline an invitation to a wedding": (
        "Can't come. Be happy, you two.",
        "We are honoured by your invitation but must regretfully decline owing to a prior commitment. Please convey "
        "our best wishes to both families.",
        "I'm heartbroken that I can't be there! I love you both to bits and I'll be dancing for you at home!",
        "On 21 June I am in Oslo until 18:40 and the last flight to Porto leaves at 17:55. A parcel of 2 kg is on its "
        "way.",
        "While your bells ring and white petals whirl, I shall stand on a cold, windswept platform and raise a "
        "paper cup.",
        "Would you please forgive us if we cannot come? And may we invite the two of you to dinner when you are back?",
    ),
    "Describe the view from a train": (
        "Fields. A river. More fields.",
        "The line traverses an agricultural district of modest elevation. Passengers seated on the left enjoy an "
        "extensive prospect of the river and, subsequently, of the mountains.",
        "Oh, it's so beautiful out there! I'm waving at every cow and I can't stop smiling!",
        "Between Basel and Olten I counted 14 bridges, 3 castles and 61 cows in 39 minutes on the left side.",
        "Rusty barns flicker past, poppies blaze like sparks in the wheat, and the river unrolls its glittering "
        "ribbon.",
        "Have you ever taken the slow train? Would you sit by the window, please, and tell me what you see?",
    ),
    "Welcome a new member to the choir": (
        "Welcome. We start at seven.",
        "On behalf of the committee I extend a cordial welcome to you. The regulations of the choir and the "
        "programme of the season will be forwarded to you in due course.",
        "Welcome, welcome, welcome! We're so happy you've found us, and we can't wait to hear you sing!",
        "We are 34 voices, 9 of them altos, and meet on Wednesdays at 19:00 in Hall 2; Karin has your folder, "
        "number 35.",
        "Tonight your voice will melt into ours like honey into hot tea, under the dusty, candle-gold vault.",
        "Would you like to sit with the altos? May I show you round, and could you please tell us what you love "
        "to sing?",
    ),
    "Complain about a late parcel": (
        "Still no parcel. Where is it?",
        "I must express my dissatisfaction with the delivery of my order, which is considerably overdue. I request a "
        "written explanation and, if necessary, reimbursement of the amount.",
        "I know you're all doing your very best, and I'm sure my little parcel's having a lovely trip! I just miss it!",
        "Order 55-2081 of 2 April, promised for 5 April, has been in Depot 7 in Lille for 11 days. I paid 64.90.",
        "Every evening I stare at the bare, rain-streaked doorstep, and only wet brown leaves come rustling to "
        "my door.",
        "Could you please tell me where my parcel is? Has it been lost, and would you send another one?",
    ),
    "Describe your grandmother's kitchen": (
        "Small, warm, always full.",
        "The kitchen was of modest dimensions and furnished with considerable economy. Nevertheless it constituted the "
        "undisputed centre of the household, particularly during the colder months.",
        "I'd give anything for one more hug in that kitchen! Granny's pancakes were pure love!",
        "It was 3 by 4 metres, with 1 window, a Senking stove of 1952, 12 blue cups and a radio tuned to Hilversum.",
        "Copper pans glowed like small suns, cinnamon and woodsmoke clung to the curtains, and the kettle purred and "
        "spat.",
        "Do you remember the smell of it? May I ask what became of the table, and would you please tell me the recipe?",
    ),
    "Ask the library to renew a loan": (
        "Please renew my book. Two weeks.",
        "I hereby request an extension of the loan period for the volume currently in my possession. I should be "
        "obliged for a brief confirmation.",
        "Hello, you wonderful library people! I'm loving this book so much that I just can't give it back yet!",
        "Card 30417: please extend Rivers of Asia, due on 8 October, to 22 October. It would be renewal 2 of 3.",
        "It lies open on my rumpled quilt, its yellow pages still whispering, and the river has not yet reached "
        "the sea.",
        "Could you please renew my loan? Is anyone waiting for the book, and if so, may I keep it for the weekend?",
    ),
    "Wish someone a happy birthday": (
        "Happy birthday. Stay as you are.",
        "Please accept my best wishes on the occasion of your birthday. May the coming year bring continued health and "
        "every success in your endeavours.",
        "Happy, happy birthday, you gorgeous thing! I hope your day's as sweet and funny as you are, big hugs!",
        "Happy 40th, Sam! That is 14,610 days; we have known each other for 9,200 of them, since Mrs Dale's class 5.",
        "May your candles crackle and blaze, your cake drip with dark cherries, and your night glitter until the birds "
        "sing.",
        "How does it feel to be a year older? Would you let me take you to lunch, and may I choose the place, please?",
    ),
    "Report on the school football match": (
        "We won. Late goal. Muddy.",
        "The fixture concluded with a narrow but deserved victory for our school. The conduct of both teams was "
        "exemplary, and the spectators were duly appreciative.",
        "What a match, what a team! We're so proud of every single one of you brave, muddy heroes!",
        "3:2 against Weston on Saturday: Ali in minutes 12 and 55, Ben in minute 89, 140 spectators, 1 yellow card.",
        "Mud flew, boots thudded, breath smoked in the raw air, and the last shot screamed into the trembling net.",
        "Who would have thought it? Did you see that last goal, and would you please come along next time?",
    ),
}
